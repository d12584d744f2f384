"""Boxes, sizes, merge and checkpoint layouts of Auto-Panoptic against the published code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap
from mmpanoptic.datasets.label_sets import COCO_PANOPTIC
from mmpanoptic.datasets.transforms import ResizeShortestEdge
from mmpanoptic.registry import MODELS, TASK_UTILS
from mmpanoptic.structures import BoxedMasks
from tests.data.golden.panoptic_deeplab import synthetic_checkpoint
from tests.golden import Golden, golden_cases, layout_file
from tests.parity.auto_panoptic_weights import (
    COCO_3_8G,
    SYSTEM,
    WIDTHS_3_8G,
    model_config,
)
from tests.reference import auto_panoptic as plain


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmpanoptic")


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "resize_sizes*.json"))
def test_sizes_of_resized_images(path):
    resize = ResizeShortestEdge(800, 1333, size_rule="detectron")
    for case in json.loads(path.read_text()):
        found = resize.choose_size(case["height"], case["width"])
        assert list(found) == case["out_height_width"]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "legacy_boxes*.npz"))
def test_boxes(path):
    golden = Golden(path)
    data = {key: torch.from_numpy(value) for key, value in golden.items()}
    cfg = model_config(COCO_3_8G)
    anchors = TASK_UTILS.build(cfg.rpn_head.anchor_generator).base_anchors
    assert torch.equal(torch.stack(anchors), data["cell_anchors"])
    extractor = MODELS.build(cfg.roi_head.mask_roi_extractor)
    rois = torch.nn.functional.pad(data["boxes"], (1, 0))
    levels = extractor.map_roi_levels(rois, len(extractor.featmap_strides))
    assert torch.equal(levels, data["levels"])
    coders = {"rpn": cfg.rpn_head.bbox_coder, "roi": cfg.roi_head.bbox_head.bbox_coder}
    for name, coder_cfg in coders.items():
        coder = TASK_UTILS.build(coder_cfg)
        boxes = data["coder_boxes"]
        decoded = coder.decode(boxes, data["coder_deltas"])
        golden.close("auto_panoptic.decoded_boxes", f"{name}_decoded", decoded)
        encoded = coder.encode(boxes, data["coder_gt"])
        golden.close("auto_panoptic.encoded_boxes", f"{name}_encoded", encoded)


def fuse(masks, scores, labels, semantic, **options):
    """Merge with the fusion head of the base config; the map and (is thing, label) of each."""
    cfg = dict(model_config(COCO_3_8G).fusion_head) | {
        "thing_labels": range(int(labels.max(initial=0)) + 1),
        "stuff_labels": range(1000, 1000 + int(semantic.max())),
        **options,
    }
    head = MODELS.build(cfg)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= head.score_thr]
    instances = InstanceData(
        scores=torch.from_numpy(scores[order]), labels=torch.from_numpy(labels[order])
    )
    boxed = BoxedMasks.from_full(torch.from_numpy(masks[order]))
    index_map, segments = head.fuse(instances, boxed, torch.from_numpy(semantic).long())
    found = [(s["isthing"], s["label"] - (0 if s["isthing"] else 999)) for s in segments]
    return index_map.numpy(), found


def merge_inputs(data: dict):
    shape = tuple(map(int, data["mask_shape"]))
    masks = np.unpackbits(data["masks"])[: np.prod(shape)].reshape(shape).astype(bool)
    return masks, data["scores"], data["labels"], data["semantic"]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "panoptic_merge*.npz"))
def test_merge(path):
    data = Golden(path)
    index_map, segments = fuse(*merge_inputs(data))
    np.testing.assert_array_equal(index_map, data["segment_map"])
    stuff_ids = [label.dataset_id for label in COCO_PANOPTIC if not label.isthing]
    # Things are given by their ids, stuff by its position.
    ids = [label if isthing else stuff_ids[label - 1] for isthing, label in segments]
    assert ids == data["segment_category"].tolist()
    by_score, _ = fuse(*merge_inputs(data), order="score")
    assert (by_score != data["segment_map"]).any()


@pytest.mark.parametrize("count", [0, 1, 12, 130])
@pytest.mark.parametrize("seed", range(3))
def test_merge_of_random_instances(seed, count):
    rng = np.random.RandomState(seed)
    masks = np.zeros((count, 96, 120), bool)
    for mask in masks:
        top, left, height, width = rng.randint(0, [80, 100, 60, 60])
        mask[top : top + height, left : left + width] = rng.rand() < 0.9  # else it is empty
    scores = rng.choice(np.linspace(0.4, 1, 20), count)
    labels = rng.randint(0, 80, count)
    semantic = rng.randint(0, 6, (12, 15)).repeat(8, 0).repeat(8, 1)
    expected, segments = plain.merge(masks, scores, labels, semantic, stuff_area=500)
    found, own = fuse(masks, scores, labels, semantic, stuff_area=500)
    np.testing.assert_array_equal(found, expected)
    assert own == segments


def build(layout: str):
    """The model of a released layout, without memory for its weights."""
    searched = layout.endswith("3.8g")
    with torch.device("meta"):
        if "imagenet" not in layout:
            return MODELS.build(model_config(COCO_3_8G if searched else None))
        backbone = {"type": "ShuffleNetV2Plus", "widths": (48, 96, 240, 480, 960)}
        if searched:
            choices = [int(digit) for digit in COCO_3_8G["backbone"]]
            backbone |= {"widths": WIDTHS_3_8G, "choices": choices}
        width = 1728 if searched else 1024
        head = {"type": "ShuffleNetV2PlusHead", "num_labels": 1000}
        head |= {"in_channels": backbone["widths"][-1], "channels": width}
        return MODELS.build({"type": "ImageClassifier", "backbone": backbone, "head": head})


def released(path) -> dict:
    weights = synthetic_checkpoint.synthetic_state_dict(json.loads(path.read_text()))
    return {name.removeprefix("module."): value for name, value in weights.items()}


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "manifest_*.json"))
def test_every_tensor_is_placed_or_dropped(path):
    model = build(path.stem.removeprefix("manifest_"))
    key_map = AutoPanopticKeyMap(model)
    weights = released(path)
    placement = key_map.place(weights)
    ours, dropped = placement.tensors, placement.dropped
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in ours.items()} == shapes
    assert set(dropped).isdisjoint(key_map.published.values())
    assert {*dropped, *key_map.published.values()} >= weights.keys()
    assert all("fpn_inner1" in n or "fpn_layer1" in n or "cell_anchors" in n for n in dropped)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "manifest_imagenet_*.json"))
def test_classifiers_give_detectors_their_backbone(path):
    model = build(path.stem.removeprefix("manifest_").removeprefix("imagenet_"))
    key_map = AutoPanopticKeyMap(model)
    weights = released(path)
    placement = key_map.place(weights)
    backbone = {name for name in model.state_dict() if name.startswith("backbone.")}
    assert placement.tensors.keys() == backbone
    assert all(name.startswith(("last_conv.", "fc.")) for name in placement.dropped)


def test_classes_change_from_background_first_to_last():
    weights = released(layout_file(SYSTEM, "manifest_coco_3.8g.json"))
    ours = AutoPanopticKeyMap(build("coco_3.8g")).to_ours(weights)
    head, predictor = "roi_head.bbox_head.", "roi_heads.box.predictor."
    scores = weights[f"{predictor}cls_score.weight"]
    np.testing.assert_array_equal(ours[f"{head}fc_cls.weight"][:-1], scores[1:])
    np.testing.assert_array_equal(ours[f"{head}fc_cls.weight"][-1], scores[0])
    np.testing.assert_array_equal(
        ours[f"{head}fc_reg.bias"], weights[f"{predictor}bbox_pred.bias"][4:]
    )
    np.testing.assert_array_equal(
        ours["roi_head.mask_head.conv_logits.weight"],
        weights["roi_heads.mask.predictor.mask_fcn_logits.weight"][1:],
    )
