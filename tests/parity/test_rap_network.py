"""Panoptic FPN, the base of RAP, against the reference's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from mmpanoptic.models.layers import resize_bilinear
from mmpanoptic.models.postprocess import resize_padded_logits
from mmpanoptic.registry import MODELS, TASK_UTILS
from tests.golden import golden_files
from tests.parity.rap_variants import (
    CELL_ANCHORS,
    SYSTEM,
    build_trunk,
    manifest,
    model_config,
    normalise,
    weights,
)

TRUNKS = {"r50": "R_50", "r101": "R_101", "x101": "X_101", "x152": "X_152", "x152dcn": "X_152_dcn"}


def files(pattern: str) -> list:
    return [pytest.param(path, id=path.stem) for path in golden_files(SYSTEM, pattern)]


def load(path: Path) -> dict:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def tensors(path: Path) -> dict:
    return {k: torch.from_numpy(v) for k, v in load(path).items() if v.ndim}


def close(actual, expected, **tolerance) -> None:
    np.testing.assert_allclose(actual, expected, **{"rtol": 1e-4, "atol": 1e-4, **tolerance})


@pytest.fixture(scope="module")
def base_config():
    return model_config("R_50")


@pytest.mark.parametrize("path", files("anchors.npz"))
def test_anchors(path, base_config):
    data = load(path)
    generator = TASK_UTILS.build(base_config.rpn_head.anchor_generator)
    anchors = generator.grid_priors(data["grid_sizes"].tolist(), device="cpu")
    height, width = data["image_hw"].tolist()
    for level, boxes in enumerate(anchors):
        np.testing.assert_array_equal(boxes, data[f"anchors_{level}"])
        inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
        np.testing.assert_array_equal(inside, data[f"inside_{level}"])


@pytest.mark.parametrize("path", files("backbone_*.npz"))
def test_backbone_and_neck(path):
    data = load(path)
    variant = TRUNKS[path.stem.removeprefix("backbone_")]
    model = build_trunk(variant)
    with torch.no_grad():
        stages = model["backbone"](normalise(data["image_bgr_chw"], model_config(variant)))
        levels = model["neck"](stages)
    for number, feat in enumerate(stages, 2):
        close(feat[0, ::16], data[f"c{number}_every_16th"], rtol=0, atol=2e-5)
    for number, feat in enumerate(levels, 2):
        close(feat[0, ::16], data[f"p{number}_every_16th"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("path", files("detector_ops.npz"))
def test_box_operations(path, base_config):
    from mmcv.ops import nms  # needs the operators that mmpanoptic provides

    data = tensors(path)
    generator = TASK_UTILS.build(base_config.rpn_head.anchor_generator)
    np.testing.assert_array_equal(torch.stack(generator.base_anchors), data["base_anchors"])
    rpn_coder = TASK_UTILS.build(base_config.rpn_head.bbox_coder)
    box_coder = TASK_UTILS.build(base_config.roi_head.bbox_head.bbox_coder)
    boxes, gt = data["boxes"], data["gt"]
    # The fixture was made with RPN deltas of this fraction of the box head's.
    close(rpn_coder.decode(boxes, 0.3 * data["deltas"][:, :4]), data["rpn_decoded"])
    close(box_coder.decode(boxes, data["deltas"]), data["box_decoded"])
    close(box_coder.encode(boxes, gt), data["encoded"])
    overlaps = TASK_UTILS.build(base_config.train_cfg.rpn.assigner.iou_calculator)
    close(overlaps(gt[: len(data["iou_gt7"])], boxes), data["iou_gt7"])
    options = {k: v for k, v in base_config.test_cfg.rcnn.nms.items() if k != "type"}
    _, kept = nms(boxes, data["nms_scores"], **{**options, "iou_threshold": 0.3})
    np.testing.assert_array_equal(kept.sort().values, data["nms_keep_03"].sort().values)


@pytest.mark.parametrize("path", files("detector_ops.npz"))
def test_roi_pooling(path, base_config):
    data = tensors(path)
    feats = tuple(data[f"feat{level}"] for level in range(4))
    rois = torch.cat(
        [
            torch.nn.functional.pad(data[f"roi_boxes_{image}"], (1, 0), value=image)
            for image in range(len(feats[0]))
        ]
    )
    for name, size in (("mask", 14), ("bbox", 7)):
        cfg = base_config.roi_head[f"{name}_roi_extractor"]
        extractor = MODELS.build({**cfg, "out_channels": feats[0].shape[1]})
        levels = torch.nn.functional.pad(data["level_boxes"], (1, 0))
        np.testing.assert_array_equal(extractor.map_roi_levels(levels, 4), data["levels"])
        close(extractor(feats, rois), data[f"roi{size}"], atol=1e-5)


@pytest.mark.parametrize("path", files("detector_ops.npz"))
def test_box_head_results(path, base_config):
    data = tensors(path)
    head = MODELS.build(base_config.roi_head).bbox_head
    width, height = data["post_image_wh"].tolist()
    (result,) = head.predict_by_feat(
        (torch.nn.functional.pad(data["post_proposals"], (1, 0)),),
        (data["post_logits"].roll(-1, 1),),
        (data["post_deltas"][:, 4:].contiguous(),),
        [{"img_shape": (height, width)}],
        base_config.test_cfg.rcnn,
    )
    check_detections(result, data["post_boxes"], data["post_scores"], data["post_labels"])


def check_detections(result: InstanceData, boxes, scores, labels) -> None:
    """Compare detections as sets: the reference lists them by class, ours by score."""
    assert len(result) == len(boxes)
    ours = np.lexsort((-result.scores.numpy(), result.labels.numpy()))
    theirs = np.lexsort((-np.asarray(scores), np.asarray(labels)))
    np.testing.assert_array_equal(result.labels[ours], np.asarray(labels)[theirs] - 1)
    close(result.scores[ours], np.asarray(scores)[theirs])
    close(result.bboxes[ours], np.asarray(boxes)[theirs], atol=1e-3)


def pyramid(data: dict, batch: int) -> tuple[torch.Tensor, ...]:
    """Draw P2 to P6 as the golden README says."""
    random = np.random.RandomState(int(data["seed"]))
    size = np.asarray(data.get("padded_size", data.get("input_size"))) // 4
    levels = []
    for _ in range(5):
        levels.append(random.standard_normal((batch, 256, *size)).astype(np.float32))
        size = (size + 1) // 2
    return tuple(map(torch.from_numpy, levels))


@pytest.fixture(scope="module")
def semantic_head():
    model = torch.nn.ModuleDict({"semantic_head": MODELS.build(model_config("R_50").semantic_head)})
    state = weights("R_50", scaled=False, prefix="semantic_head.")
    model.load_state_dict(RapKeyMap(model).to_ours(state))
    return model["semantic_head"]


@pytest.mark.parametrize("path", files("semantic_head_*.npz"))
def test_semantic_head(path, semantic_head):
    data = load(path)
    feats = pyramid(data, 1)
    assert [list(feat.shape[2:]) for feat in feats] == data["fpn_sizes"].tolist()
    with torch.no_grad():
        logits = semantic_head(feats)
    size = tuple(int(4 * n) for n in logits.shape[2:])
    full = resize_bilinear(logits, size, align_corners=True)
    close(full[0, :, ::4, ::4], data["logits_every_4th"])
    meta = {"img_shape": size, "ori_shape": tuple(data["resized_to"].tolist())}
    resized = resize_padded_logits(logits[0], meta, "squash")
    assert (resized.classes().numpy() != data["argmax"]).mean() <= 1e-4


@pytest.mark.parametrize("path", files("semantic_loss.npz"))
def test_semantic_loss(path, semantic_head):
    data = load(path)
    feats = tuple(feat.requires_grad_() for feat in pyramid(data, 2))
    height, width = data["padded_size"].tolist()
    inverse = {0: 255, 54: 0, **{k: 79 + k for k in range(1, 54)}}
    samples = []
    for name in ("label_0", "label_1"):
        label = np.vectorize(inverse.get)(data[name])
        padding = [(0, height - label.shape[0]), (0, width - label.shape[1])]
        padded = torch.from_numpy(np.pad(label, padding, constant_values=255))
        sample = DetDataSample(metainfo={"img_shape": label.shape})
        sample.gt_sem_seg = PixelData(sem_seg=padded[None])
        samples.append(sample)
    semantic_head.zero_grad()
    loss = semantic_head.loss_by_feat(semantic_head(feats), samples)["loss_semantic"]
    loss.backward()
    assert loss.item() == pytest.approx(float(data["loss"]), rel=1e-4)
    close(feats[0].grad[:, ::8, ::4, ::4], data["grad_p2_every_8th"], rtol=1e-3, atol=1e-8)
    close(feats[4].grad[:, ::8], data["grad_p6"], rtol=1e-3, atol=1e-8)
    norm = semantic_head.conv_logits.weight.grad.norm().item()
    assert norm == pytest.approx(float(data["final_conv_weight_grad_norm"]), rel=1e-4)


@pytest.mark.parametrize("path", files("manifest_*.json"))
def test_released_layouts_fit_the_configs(path):
    variant = path.stem.removeprefix("manifest_")
    with torch.device("meta"):
        model = MODELS.build(model_config(variant))
        state = {name: torch.empty(shape) for name, shape in manifest(variant).items()}
    key_map = RapKeyMap(model)
    ours = key_map.to_ours(state)
    needed = {n: v.shape for n, v in model.state_dict().items() if "num_batches" not in n}
    assert {name: value.shape for name, value in ours.items()} == needed
    back = key_map.to_published(ours)
    assert {name: list(value.shape) for name, value in back.items()} == {
        name: shape for name, shape in manifest(variant).items() if CELL_ANCHORS not in name
    }
