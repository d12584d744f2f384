"""Panoptic FPN, the base of RAP, against the reference's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from mmpanoptic.models.layers import resize_bilinear
from mmpanoptic.models.postprocess import resize_padded_logits
from mmpanoptic.registry import MODELS, TASK_UTILS
from tests.golden import Golden, golden_cases
from tests.parity.rap_variants import (
    CELL_ANCHORS,
    SYSTEM,
    build_trunk,
    manifest,
    model_config,
    normalise,
    weights,
)
from tests.tolerances import Detections

TRUNKS = {"r50": "R_50", "r101": "R_101", "x101": "X_101", "x152": "X_152", "x152dcn": "X_152_dcn"}


def tensors(golden: Golden) -> dict:
    return {k: torch.from_numpy(v) for k, v in golden.items() if v.ndim}


@pytest.fixture(scope="module")
def base_config():
    return model_config("R_50")


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "anchors*.npz"))
def test_anchors(path, base_config):
    data = Golden(path)
    generator = TASK_UTILS.build(base_config.rpn_head.anchor_generator)
    anchors = generator.grid_priors(data["grid_sizes"].tolist(), device="cpu")
    height, width = data["image_hw"].tolist()
    for level, boxes in enumerate(anchors):
        data.equal(f"anchors_{level}", boxes)
        inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
        data.equal(f"inside_{level}", inside)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "backbone_*.npz"))
def test_backbone_and_neck(path):
    data = Golden(path)
    variant = TRUNKS[path.stem.split("_")[1]]
    model = build_trunk(variant)
    with torch.no_grad():
        stages = model["backbone"](normalise(data["image_bgr_chw"], model_config(variant)))
        levels = model["neck"](stages)
    for number, feat in enumerate(stages, 2):
        data.close(f"rap.backbone_{number}", f"c{number}_every_16th", feat[0, ::16])
    for number, feat in enumerate(levels, 2):
        data.close("rap.neck", f"p{number}_every_16th", feat[0, ::16])


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "detector_ops*.npz"))
def test_box_operations(path, base_config):
    from mmcv.ops import nms  # needs the operators that mmpanoptic provides

    golden = Golden(path)
    data = tensors(golden)
    generator = TASK_UTILS.build(base_config.rpn_head.anchor_generator)
    golden.equal("base_anchors", torch.stack(generator.base_anchors))
    rpn_coder = TASK_UTILS.build(base_config.rpn_head.bbox_coder)
    box_coder = TASK_UTILS.build(base_config.roi_head.bbox_head.bbox_coder)
    boxes, gt = data["boxes"], data["gt"]
    # The fixture was made with RPN deltas of this fraction of the box head's.
    decoded = rpn_coder.decode(boxes, 0.3 * data["deltas"][:, :4])
    golden.close("rap.decoded_boxes", "rpn_decoded", decoded)
    golden.close("rap.decoded_boxes", "box_decoded", box_coder.decode(boxes, data["deltas"]))
    golden.close("rap.encoded_boxes", "encoded", box_coder.encode(boxes, gt))
    overlaps = TASK_UTILS.build(base_config.train_cfg.rpn.assigner.iou_calculator)
    first = len(data["iou_gt7"])
    golden.close("rap.overlaps", "iou_gt7", overlaps(gt[:first], boxes))
    options = {k: v for k, v in base_config.test_cfg.rcnn.nms.items() if k != "type"}
    _, kept = nms(boxes, data["nms_scores"], **{**options, "iou_threshold": 0.3})
    np.testing.assert_array_equal(kept.sort().values, data["nms_keep_03"].sort().values)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "detector_ops*.npz"))
def test_roi_pooling(path, base_config):
    golden = Golden(path)
    data = tensors(golden)
    strides = base_config.roi_head.bbox_roi_extractor.featmap_strides
    feats = tuple(data[f"feat{level}"] for level in range(len(strides)))
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
        golden.equal("levels", extractor.map_roi_levels(levels, len(strides)))
        golden.close("rap.roi_pooling", f"roi{size}", extractor(feats, rois))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "detector_ops*.npz"))
def test_box_head_results(path, base_config):
    golden = Golden(path)
    data = tensors(golden)
    head = MODELS.build(base_config.roi_head).bbox_head
    width, height = data["post_image_wh"].tolist()
    (result,) = head.predict_by_feat(
        (torch.nn.functional.pad(data["post_proposals"], (1, 0)),),
        (data["post_logits"].roll(-1, 1),),
        (data["post_deltas"][:, 4:].contiguous(),),
        [{"img_shape": (height, width)}],
        base_config.test_cfg.rcnn,
    )
    ours = Detections(result.bboxes, result.scores, result.labels + 1)
    keys = [f"post_{name}" for name in ("boxes", "scores", "labels")]
    golden.detections("rap.box_head", keys, ours)


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


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "semantic_head_*.npz"))
def test_semantic_head(path, semantic_head):
    data = Golden(path)
    feats = pyramid(data, 1)
    data.equal("fpn_sizes", [feat.shape[2:] for feat in feats])
    with torch.no_grad():
        logits = semantic_head(feats)
    size = tuple(int(4 * n) for n in logits.shape[2:])
    full = resize_bilinear(logits, size, align_corners=True)
    data.close("rap.semantic_head", "logits_every_4th", full[0, :, ::4, ::4])
    meta = {"img_shape": size, "ori_shape": tuple(data["resized_to"].tolist())}
    resized = resize_padded_logits(logits[0], meta, "squash")
    data.alike("argmax", resized.classes(), 1 - 1e-4)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "semantic_loss*.npz"))
def test_semantic_loss(path, semantic_head):
    data = Golden(path)
    names = sorted(name for name in data if name.startswith("label_"))
    feats = tuple(feat.requires_grad_() for feat in pyramid(data, len(names)))
    height, width = data["padded_size"].tolist()
    # The published labels: 0 for void, stuff, and one for all things.
    labels = model_config("R_50").semantic_head
    stuff, things = len(labels.stuff_labels), len(labels.thing_labels)
    inverse = {0: 255, stuff + 1: 0, **{k: things - 1 + k for k in range(1, stuff + 1)}}
    samples = []
    for name in names:
        label = np.vectorize(inverse.get)(data[name])
        padding = [(0, height - label.shape[0]), (0, width - label.shape[1])]
        padded = torch.from_numpy(np.pad(label, padding, constant_values=255))
        sample = DetDataSample(metainfo={"img_shape": label.shape})
        sample.gt_sem_seg = PixelData(sem_seg=padded[None])
        samples.append(sample)
    semantic_head.zero_grad()
    loss = semantic_head.loss_by_feat(semantic_head(feats), samples)["loss_semantic"]
    loss.backward()
    data.close("rap.semantic_loss", "loss", loss)
    finest = feats[0].grad[:, ::8, ::4, ::4]
    data.close("rap.semantic_gradient", "grad_p2_every_8th", finest)
    data.close("rap.semantic_gradient", "grad_p6", feats[4].grad[:, ::8])
    norm = semantic_head.conv_logits.weight.grad.norm()
    data.close("rap.semantic_gradient", "final_conv_weight_grad_norm", norm)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "manifest_*.json"))
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
