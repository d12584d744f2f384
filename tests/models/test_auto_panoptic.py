from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image
from torch.nn import functional

from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.backbones import ShuffleNetV2Plus
from mmpanoptic.models.backbones.shufflenet_v2_plus import shuffle_and_split
from mmpanoptic.models.fusion_heads.ordered_fusion import nearest_cells
from mmpanoptic.models.layers import set_path
from mmpanoptic.models.layers.head_ops import HEAD_OPS, HeadOp, head_op_macs
from mmpanoptic.models.segmentors.auto_panoptic import (
    AttentionUnits,
    column_means,
    mean_of_upsampled,
)
from mmpanoptic.models.segmentors.two_stage import keep_best_of_batch
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import make_panoptic_data

CONFIGS = Path(__file__).parents[2] / "configs" / "auto_panoptic"
LEAF = CONFIGS / "auto-panoptic_tiny_1xb8-500_shapes.py"
OPEN = {
    "model.backbone.choices": None,
    "model.roi_head.mask_head.choices": None,
    "model.semantic_head.choices": None,
    "model.f2b.choices": None,
    "model.b2f.choices": None,
}


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)


def tiny(**options):
    cfg = Config.fromfile(LEAF)
    cfg.merge_from_dict(options)
    return resolve_config(cfg)


def make_batch(cfg, size=(64, 96), instances=2):
    """Images, and samples of which the first has things and the second none."""
    things, stuff = cfg.model.thing_labels, cfg.model.semantic_head.stuff_labels
    samples = []
    for count in (instances, 0):
        sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "pad_shape": size})
        semantic = torch.full((1, *size), stuff[0])
        masks = torch.zeros((count, *size), dtype=torch.bool)
        for k in range(count):
            masks[k, 8 + 4 * k : 40, 10 + 30 * k : 35 + 30 * k] = True
            semantic[0][masks[k]] = things[k]
        sample.gt_sem_seg = PixelData(sem_seg=semantic)
        sample.gt_panoptic_seg = make_panoptic_data(torch.ones(size, dtype=torch.int32), [])
        boxes = [[10 + 30 * k, 8 + 4 * k, 35 + 30 * k, 40] for k in range(count)]
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            labels=torch.tensor(things[:count], dtype=torch.int64),
            masks=bitmap_masks(masks),
        )
        samples.append(sample)
    return torch.randn(2, 3, *size) * 50, samples


def bitmap_masks(masks):
    from mmdet.structures.mask import BitmapMasks

    return BitmapMasks(masks.numpy().astype(np.uint8), *masks.shape[1:])


@pytest.mark.parametrize("op", HEAD_OPS)
def test_no_regions_pass_through_every_operation(op):
    layer = HeadOp(op, 32, 64, {"type": "GN", "num_groups": 16})
    x = torch.zeros(0, 32, 14, 14, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == (0, 64, 14, 14)
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match=r"unknown head operation 'XConv'.*DWConv3x3"):
        HeadOp("XConv", 8, 8, {"type": "GN", "num_groups": 4})
    with pytest.raises(ValueError, match=r"unknown block operation 'resnet'"):
        ShuffleNetV2Plus((8, 16), (1,), [0], ["resnet"], (0,))


def test_operations_cost_what_the_paper_counts():
    assert head_op_macs("DWConv3x3", 256, 256) == 9 * 256 + 256 * 256
    assert head_op_macs("DFConv5x5", 256, 256) == 25 * 256 * (75 + 256)


def test_half_of_the_channels_bypass_a_block():
    bypass, rest = shuffle_and_split(torch.arange(12.0)[None, :, None, None])
    assert bypass.flatten().tolist() == [0, 6, 1, 7, 2, 8]
    assert rest.flatten().tolist() == [3, 9, 4, 10, 5, 11]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (8, 16), "depths": (1, 1)}, "one stage per entry of depths"),
        ({"widths": (8, 8), "depths": (1,)}, "rise from stage to stage"),
        ({"widths": (8, 15), "depths": (1,)}, "be even"),
        ({"widths": (8, 16), "depths": (2,), "choices": [0]}, "needs 2 values"),
        ({"widths": (8, 16), "depths": (1,), "choices": [4]}, r"choices 0\.\.3"),
    ],
)
def test_wrong_backbones_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShuffleNetV2Plus(out_indices=(0,), **arguments)


@pytest.mark.parametrize("cells", [(1, 1), (1, 5), (4, 3), (7, 9)])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (25, 42)])
def test_the_mean_of_an_enlarged_map_needs_no_enlarging(cells, size):
    x = torch.randn(2, 3, *cells, dtype=torch.float64)
    full = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(mean_of_upsampled(x, size), full.mean((2, 3)))
    assert column_means(cells[0], size[0], x.device).sum() == pytest.approx(1)


def test_attention_units_refuse_reductions_that_leave_nothing():
    with pytest.raises(ValueError, match=r"1\.\.8 \(its output channels\), got 9"):
        AttentionUnits("f2b", 16, 8, 1, [0], (9,))


@pytest.mark.parametrize("lengths", [(3, 7), (7, 3), (100, 133), (641, 480), (5, 5), (1, 9)])
def test_label_maps_are_resized_as_pillow_does(lengths):
    old, new = lengths
    row = Image.fromarray(np.arange(old, dtype=np.float32)[None])
    expected = np.asarray(row.resize((new, 1), Image.Resampling.NEAREST))[0]
    found = nearest_cells(old, new, torch.device("cpu"))
    np.testing.assert_array_equal(found, expected.astype(int))


def test_resizing_of_labels_knows_no_padding():
    cfg = tiny().model.fusion_head
    cfg.pad_handling = "squash"
    with pytest.raises(ValueError, match=r'pad_handling must be "crop", got \'squash\''):
        MODELS.build(cfg)


@pytest.mark.parametrize("instances", [0, 2])
def test_a_network_learns_and_predicts(instances):
    cfg = tiny()
    model = MODELS.build(cfg.model)
    inputs, samples = make_batch(cfg, instances=instances)
    losses = model(inputs, samples, mode="loss")
    total = sum(v if torch.is_tensor(v) else sum(v) for n, v in losses.items() if "loss" in n)
    total.backward()
    assert total.isfinite()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    results = model.eval()(inputs, samples, mode="predict")
    assert [r.pred_panoptic_seg.index_map.shape[1:] for r in results] == [(64, 96)] * 2


def test_attention_of_the_other_branch_reaches_both():
    model = MODELS.build(tiny().model).eval()
    feats = model.extract_feat(torch.randn(1, 3, 64, 96) * 50)
    fused, logits = model.exchange(feats)
    plain = model.semantic_head(feats)
    assert logits.shape == plain.shape
    assert (logits - plain).abs().max() > 1e-3
    assert all(map(torch.equal, model.instance_feats(feats), fused))
    for before, after in zip(feats, fused, strict=True):
        ratio = after / before
        assert ((ratio > 1) & (ratio < 2))[before.abs() > 1e-3].all()


def test_the_readme_puts_a_found_backbone_under_panoptic_deeplab(tmp_path):
    text = (CONFIGS / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    path = tmp_path / "config.py"
    path.write_text(code.replace("../", f"{CONFIGS.parent}/"), encoding="utf-8")
    model = MODELS.build(resolve_config(Config.fromfile(path)).model).eval()
    with torch.no_grad():
        outputs = model.forward_heads(torch.zeros(1, 3, 64, 64))
    assert outputs.semantic.shape[2:] == outputs.instance.center.shape[2:] == (16, 16)


def test_the_searchable_heads_serve_a_model_without_exchange():
    cfg = tiny()
    model = cfg.model
    model.type = "TwoStagePanopticSegmentor"
    del model.f2b, model.b2f
    outputs = MODELS.build(model).eval().forward_heads(torch.randn(1, 3, 64, 96))
    assert outputs.semantic.shape[2:] == (16, 24)


def test_a_supernet_needs_a_path_and_runs_the_chosen_modules():
    cfg = tiny(**OPEN)
    model = MODELS.build(cfg.model).eval()
    inputs = torch.randn(1, 3, 64, 96) * 50
    with pytest.raises(RuntimeError, match=r"no path: decision backbone\.0"):
        model.forward_heads(inputs)
    names = [f"{group['name']}.{i}" for group in cfg.search_space for i in range(group["size"])]
    outputs = []
    for choice in (0, 1, 2):
        set_path(model, dict.fromkeys(names, choice))
        with torch.no_grad():
            outputs.append(model.forward_heads(inputs).semantic)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4
    assert (outputs[1] - outputs[2]).abs().max() > 1e-4


@pytest.mark.parametrize(("limit", "kept"), [(None, [3, 4]), (9, [3, 4]), (4, [1, 3])])
def test_the_images_of_a_batch_share_the_proposals(limit, kept):
    scores = [torch.tensor([0.9, 0.2, 0.1]), torch.tensor([0.8, 0.7, 0.6, 0.3])]
    proposals = [InstanceData(scores=one, bboxes=torch.rand(len(one), 4)) for one in scores]
    found = keep_best_of_batch(proposals, limit)
    for one, all_of_image, count in zip(found, proposals, kept, strict=True):
        assert torch.equal(one.scores, all_of_image.scores[:count])
        assert torch.equal(one.bboxes, all_of_image.bboxes[:count])


def test_weights_start_as_published():
    cfg = tiny()
    cfg.model.neck.out_channels = 256
    neck = MODELS.build(cfg.model.neck)
    neck.init_weights()
    bound = (3 / (256 * 9)) ** 0.5  # uniform, gain 1
    weight = neck.fpn_convs[0].conv.weight
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    box_head = MODELS.build(cfg.model.roi_head.bbox_head)
    box_head.init_weights()
    fc = box_head.shared_fcs[0][0].weight
    assert fc.abs().max().item() == pytest.approx((3 / fc.shape[1]) ** 0.5, rel=0.01)
    assert box_head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert box_head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.1)
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    assert backbone.stem.weight.std().item() == pytest.approx(0.01, rel=0.2)
    dense = HeadOp("ATConv3x3", 64, 64, {"type": "GN", "num_groups": 32}).conv
    assert dense.weight.std().item() == pytest.approx((2 / (2 * 64 * 9)) ** 0.5, rel=0.1)


def test_bfloat16_gives_nearly_the_same_logits():
    model = MODELS.build(tiny().model).eval()
    feats = [torch.randn(1, 64, 32 // 2**i, 48 // 2**i) for i in range(5)]
    with torch.no_grad():
        expected = model.exchange(feats)[1]
        with torch.autocast("cpu", torch.bfloat16):
            found = model.exchange(feats)[1]
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_semantic_loss_of_unlabelled_images_is_zero():
    cfg = tiny()
    head = MODELS.build(cfg.model.semantic_head)
    sample = DetDataSample(metainfo={"img_shape": (16, 16)})
    sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, 32, 32), 255))
    outputs = torch.randn(1, len(cfg.model.semantic_head.stuff_labels) + 1, 8, 8)
    assert head.loss_by_feat(outputs, [sample])["loss_semantic"] == 0


def test_too_few_levels_are_refused():
    head = MODELS.build(tiny().model.semantic_head)
    with pytest.raises(ValueError, match="num_levels is 4, got 3 levels"):
        head([torch.zeros(1, 64, 8, 8)] * 3)


def classifier(widths, depths, choices, num_labels, channels, **options):
    backbone = {"widths": widths, "depths": depths, "choices": choices, "out_indices": (1,)}
    head = {"num_labels": num_labels, "in_channels": widths[-1], "channels": channels}
    return MODELS.build(
        {
            "type": "ImageClassifier",
            "backbone": {"type": "ShuffleNetV2Plus", **backbone},
            "head": {"type": "ShuffleNetV2PlusHead", **head},
            **options,
        }
    )


def test_a_classifier_learns_and_predicts():
    model = classifier((8, 16, 24), (1, 2), [3, 0, 1], 5, 32)
    model.init_weights()
    samples = [BaseDataElement(gt_label=label) for label in (0, 4)]
    loss = model(torch.randn(2, 3, 32, 32), samples, mode="loss")["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(np.log(5), rel=0.2)
    (first, _) = model.eval()(torch.randn(2, 3, 32, 32), samples, mode="predict")
    assert first.pred_scores.sum().item() == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="mode"):
        model(torch.randn(1, 3, 32, 32), mode="train")


def test_a_classifier_learns_the_same_when_blocks_are_computed_again():
    plain = classifier((8, 16, 24), (1, 2), [3, 0, 1], 5, 32)
    lean = classifier((8, 16, 24), (1, 2), [3, 0, 1], 5, 32, activation_checkpointing=True)
    lean.load_state_dict(plain.state_dict())
    images, samples = torch.randn(2, 3, 32, 32), [BaseDataElement(gt_label=k) for k in (0, 4)]
    for model in (plain, lean):
        torch.manual_seed(0)  # of the dropout
        model(images, samples, mode="loss")["loss"].backward()
    for one, other in zip(plain.parameters(), lean.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert all(map(torch.equal, plain.state_dict().values(), lean.state_dict().values()))


def test_a_classifier_starts_as_published():
    model = classifier((64, 128, 256), (1, 1), None, 500, 512)
    model.init_weights()
    block = model.backbone.blocks[1][0].branch[0]
    assert model.backbone.stem.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert block.pointwise.weight.std().item() == pytest.approx(1 / 128, rel=0.1)
    assert block.bn_point.bias[0].item() == pytest.approx(1e-4)
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
