import copy

import pytest
import torch
from mmcv.transforms import TestTimeAug  # noqa: F401  (registers it)
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope

from mmpanoptic.models.fusion_heads import CenterGroupingHead
from mmpanoptic.models.instance_heads import CenterOffsetOutputs
from mmpanoptic.models.postprocess import ResizedLogits, resized_logits
from mmpanoptic.models.postprocess.augmented import MeanLogits
from mmpanoptic.models.postprocess.flips import FLIPS, flipped_dims
from mmpanoptic.registry import MODELS, TRANSFORMS
from tests.data.golden.panoptic_deeplab.crafted_inputs import make_logits, make_postprocess_inputs
from tests.models.builders import tiny_config

SIZE = (48, 64)


def outputs(seed=0):
    data = make_postprocess_inputs(seed, *SIZE, 9, num_classes=7, thing_ids=(4, 5, 6), sigma=2)
    logits = make_logits(seed, data["sem"], 7)
    return tuple(torch.from_numpy(x) for x in (logits, data["center"], data["offset"]))


def mirrored(arrays, direction):
    dims = FLIPS[direction]
    logits, center, offset = (x.flip(dims) for x in arrays)
    for dim in dims:
        offset[dim] *= -1
    return logits, center, offset


def make_head(**kwargs):
    return CenterGroupingHead(7, (4, 5, 6), stride=1, stuff_area=20, **kwargs)


def meta(direction=None, img_shape=SIZE, ori_shape=SIZE):
    flip = {"flip": direction is not None, "flip_direction": direction}
    return {"img_shape": img_shape, "ori_shape": ori_shape, **flip}


def augmented(head, *pairs):
    parts, metas = zip(*pairs, strict=True)
    instance = [CenterOffsetOutputs(center, offset) for _, center, offset in parts]
    return head.predict_augmented([logits for logits, _, _ in parts], instance, list(metas))


def plain(head, arrays, **kwargs):
    logits, center, offset = arrays
    instance = CenterOffsetOutputs(center[None], offset[None])
    return head.predict(logits[None], instance, [meta(**kwargs)])[0]


def assert_same(actual, expected):
    assert torch.equal(actual["pred_sem_seg"].sem_seg, expected["pred_sem_seg"].sem_seg)
    actual, expected = (r["pred_panoptic_seg"] for r in (actual, expected))
    assert torch.equal(actual.index_map, expected.index_map)
    for mine, theirs in zip(actual.segments_info, expected.segments_info, strict=True):
        theirs = dict(theirs, score=pytest.approx(theirs["score"], rel=1e-4))
        assert mine == theirs


@pytest.mark.parametrize("average", ["softmax", "logits"])
@pytest.mark.parametrize("ori_shape", [SIZE, (60, 90)])
def test_the_image_itself_changes_nothing(average, ori_shape):
    head = make_head(tta_average=average)
    pair = (outputs(), meta(ori_shape=ori_shape))
    assert_same(augmented(head, pair, pair), plain(head, outputs(), ori_shape=ori_shape))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_mirrored_outputs_of_an_equivariant_network_give_the_single_result(
    monkeypatch, direction, fixed
):
    monkeypatch.setitem(resized_logits.BAND_PIXELS, "cpu", 600)
    head = make_head()
    expected = plain(head, outputs())
    assert len(expected["pred_panoptic_seg"].segments_info) > 6
    monkeypatch.setattr(head, "_sizes_are_fixed", lambda device: fixed)
    pair = (mirrored(outputs(), direction), meta(direction))
    assert_same(augmented(head, pair), expected)
    assert_same(augmented(head, (outputs(), meta()), pair), expected)


def test_offsets_of_other_scales_are_rescaled():
    logits, center, offset = outputs()
    small = tuple(x[:, ::2, ::2] for x in (logits, center, offset / 2))
    head = make_head()
    pairs = [(small, meta(img_shape=(24, 32))), ((logits, center, offset), meta())]
    parts = [head.resize_outputs(*arrays, m) for arrays, m in pairs]
    result = augmented(head, *pairs)
    agree = (parts[0].offset - parts[1].offset).abs().median()
    assert agree < 2, "both say the same in pixels of the result"
    assert result["pred_panoptic_seg"].index_map.shape == (1, *SIZE)


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_means_are_means(average):
    generator = torch.Generator().manual_seed(0)
    parts = [
        ResizedLogits(torch.randn(5, *cells, generator=generator), 4, img, (30, 41))
        for cells, img in (((5, 7), (20, 27)), ((8, 11), (32, 43)))
    ]
    mean = MeanLogits(parts, [(), (-1,)], average)
    first, second = parts[0].dense(), parts[1].dense().flip(-1)
    if average == "logits":
        expected = (first + second) / 2
    else:
        expected = ((first.softmax(0) + second.softmax(0)) / 2).log()
    torch.testing.assert_close(mean.dense(), expected)
    for sparse in (True, False):
        assert torch.equal(mean.classes(sparse), expected.argmax(0))


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="tta_average"):
        make_head(tta_average="sum")
    with pytest.raises(ValueError, match="flip_direction 'sideways'"):
        flipped_dims({"flip": True, "flip_direction": "sideways"})
    with pytest.raises(ValueError, match="average"):
        MeanLogits([ResizedLogits(torch.zeros(1, 1, 1), 1, (1, 1), (1, 1))], [()], "max")
    config = tiny_config()
    config["fusion_head"] = None
    with pytest.raises(ValueError, match="without --tta"):
        MODELS.build({"type": "PanopticTTAModel", "module": config})


def batch_of(transforms, images):
    init_default_scope("mmpanoptic")
    pipeline = Compose([TRANSFORMS.build({"type": "TestTimeAug", "transforms": transforms})])
    samples = [{"img": image, "ori_shape": image.shape[:2]} for image in images]
    samples = [dict(sample, img_shape=sample["ori_shape"]) for sample in samples]
    return pseudo_collate([pipeline(sample) for sample in samples])


def test_a_model_predicts_from_a_pipeline_of_scales_and_flips():
    torch.manual_seed(0)
    model = MODELS.build({"type": "PanopticTTAModel", "module": tiny_config()}).eval()
    images = [torch.randint(0, 255, (*SIZE, 3), dtype=torch.uint8).numpy() for _ in range(2)]
    pack = [{"type": "PackPanopticInputs"}]
    flips = [{"type": "PanopticRandomFlip", "prob": prob} for prob in (0.0, 1.0)]
    scales = [{"type": "ResizeShortestEdge", "short_edge": edge} for edge in (48, 64)]
    with torch.no_grad():
        results = model.test_step(batch_of([scales, flips, pack], images))
        alone = model.test_step(batch_of([flips[:1], pack], images))
        usual = model.module.test_step(
            {
                "inputs": [torch.from_numpy(image).permute(2, 0, 1) for image in images],
                "data_samples": [copy.deepcopy(sample) for sample in alone],
            }
        )
    assert len(results) == 2
    for sample in results:
        assert sample.pred_panoptic_seg.index_map.shape == (1, *SIZE)
        assert "network_outputs" not in sample
    for sample, expected in zip(alone, usual, strict=True):
        same = sample.pred_panoptic_seg.index_map == expected.pred_panoptic_seg.index_map
        assert same.float().mean() > 0.999


def test_another_data_preprocessor_may_take_the_models_place():
    other = {"type": "PanopticDataPreprocessor", "pad_size_divisor": 64}
    config = tiny_config()
    tta = MODELS.build({"type": "PanopticTTAModel", "module": config, "data_preprocessor": other})
    assert tta.module.data_preprocessor.pad_size_divisor == 64
    assert config["data_preprocessor"]["pad_size_divisor"] == 16
