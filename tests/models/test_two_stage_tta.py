import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmpanoptic.apis.configs import get_config
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS

SIZE = (64, 96)


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)
    cfg = resolve_config(get_config("efficientps-maskrcnn_b0-tiny_1xb8-600_shapes"))
    model = MODELS.build(cfg.model).eval()
    model.fusion_head.score_thr = 0.0
    model.roi_head.test_cfg.score_thr = 0.0
    return model


def wrap(model, **options):
    return MODELS.build({"type": "TwoStageTTAModel", "module": model, **options}).eval()


def version(image, size=SIZE, **meta):
    sample = DetDataSample(
        metainfo={"img_shape": tuple(image.shape[1:]), "ori_shape": size, **meta}
    )
    return [image], [sample]


def step(model, *versions):
    inputs, samples = zip(*versions, strict=True)
    with torch.no_grad():
        return model.test_step({"inputs": list(inputs), "data_samples": list(samples)})[0]


def test_one_version_is_the_plain_prediction(model):
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    merged = step(wrap(model, iou_thr=1.0), version(image))
    data = model.data_preprocessor(
        {
            "inputs": [image],
            "data_samples": [DetDataSample(metainfo={"img_shape": SIZE, "ori_shape": SIZE})],
        }
    )
    with torch.no_grad():
        plain = model.predict(data["inputs"], data["data_samples"])[0]
    same = merged.pred_panoptic_seg.index_map == plain.pred_panoptic_seg.index_map
    assert same.float().mean() > 0.99


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_boxes_return_from_mirrored_and_scaled_versions(model, direction):
    tta = wrap(model)
    boxes = torch.tensor([[3.0, 5.0, 40.0, 33.0], [0.0, 0.0, 95.0, 63.0]])
    meta = {"img_shape": (128, 192), "ori_shape": SIZE, "flip": True, "flip_direction": direction}
    moved = tta._map_boxes(boxes, meta, to_input=True)
    assert not torch.equal(moved, boxes)
    assert torch.allclose(tta._map_boxes(moved, meta, to_input=False), boxes)


def test_the_result_has_the_size_of_the_original(model):
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    large = torch.randint(0, 256, (3, 96, 144), dtype=torch.uint8)
    mirrored = {"flip": True, "flip_direction": "horizontal"}
    result = step(wrap(model), version(image, (70, 100)), version(large, (70, 100), **mirrored))
    assert result.pred_panoptic_seg.index_map.shape == (1, 70, 100)


def merge_boxes(*found, iou_thr=0.5, max_per_img=10):
    from mmpanoptic.models.segmentors.two_stage_tta import merge_boxes

    parts = [
        InstanceData(
            bboxes=torch.tensor([box for box, _, _ in one], dtype=torch.float32).view(-1, 4),
            scores=torch.tensor([score for _, score, _ in one], dtype=torch.float32),
            labels=torch.tensor([label for _, _, label in one], dtype=torch.int64),
        )
        for one in found
    ]
    return merge_boxes(parts, iou_thr, max_per_img)


def test_boxes_are_averaged_by_score_and_scores_over_versions():
    merged = merge_boxes([((0, 0, 10, 10), 0.9, 0)], [((0, 0, 10, 13), 0.3, 0)])
    assert torch.allclose(merged.bboxes, torch.tensor([[0, 0, 10, 10.75]]))
    assert torch.allclose(merged.scores, torch.tensor([0.6]))


def test_other_classes_and_far_boxes_stay_apart():
    merged = merge_boxes(
        [((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 10), 0.8, 1), ((50, 0, 60, 10), 0.7, 0)], []
    )
    assert merged.labels.tolist() == [0, 1, 0]
    assert torch.allclose(merged.scores, torch.tensor([0.45, 0.4, 0.35]))
    assert len(merge_boxes([((0, 0, 9, 9), 0.9, 0), ((50, 0, 60, 10), 0.7, 0)], max_per_img=1)) == 1


def test_nothing_found_is_an_empty_result():
    assert len(merge_boxes([], [])) == 0


def test_the_number_of_instances_is_bounded(model):
    model.fusion_head.predict_instances = True
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    counts = [
        len(step(wrap(model, max_per_img=limit), version(image)).pred_instances)
        for limit in (3, 100)
    ]
    assert counts[0] == 3 < counts[1]
