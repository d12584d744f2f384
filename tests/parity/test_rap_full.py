"""Whole networks of RAP and OCFusion, from the image to the panoptic map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from mmpanoptic.datasets.label_sets import COCO_PANOPTIC
from mmpanoptic.models.layers import resize_bilinear
from mmpanoptic.registry import MODELS
from tests.golden import golden_files
from tests.parity.rap_variants import SYSTEM, load_weights, model_config, normalise, weights


def load(path: Path) -> dict:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def close(actual, expected, **tolerance) -> None:
    np.testing.assert_allclose(actual, expected, **{"rtol": 1e-4, "atol": 1e-4, **tolerance})


class Case:
    """A golden file, its model, and the image as the model gets it."""

    def __init__(self, path: Path) -> None:
        self.data = load(path)
        _, body, head = path.stem.split("_")
        variant = f"R_{body[1:]}_{'RAP' if head == 'rap' else head}"
        self.cfg = model_config(variant)
        # The reference's file has at most so many detections.
        self.cfg.test_cfg.rcnn.max_per_img = len(self.data["det_boxes"])
        if "relation_val" in self.data:
            self.cfg.roi_head.relation_score_thr = 0.0  # the file ranks all detections
        self.model: Any = MODELS.build(self.cfg).eval()
        load_weights(self.model, weights(variant))
        image = normalise(self.data["image_bgr_chw"], self.cfg)
        height, width = image.shape[2:]
        divisor = self.cfg.data_preprocessor.pad_size_divisor
        padding = (0, -width % divisor, 0, -height % divisor)
        self.image = torch.nn.functional.pad(image, padding)
        self.original = tuple(self.data["original_size"].tolist())
        meta = {"img_shape": (height, width), "ori_shape": self.original}
        self.sample = DetDataSample(metainfo=meta)

    def fuse(self, method: str, outputs: Any) -> Any:
        """Fuse with the file's thresholds by one of the methods."""
        head = self.model.fusion_head
        options = {**self.cfg.fusion_head, "overlap_thr": float(self.data["overlap_thr"])}
        if method == "heuristic":
            options["type"] = "HeuristicFusionHead"
            shared = HEURISTIC_OPTIONS & options.keys()
            head = MODELS.build({"type": options["type"], **{k: options[k] for k in shared}})
        head.score_thr = float(self.data["conf_thr"])
        head.overlap_thr = float(self.data["overlap_thr"])
        head.stuff_area = int(self.data["stuff_area"])
        (result,) = head.predict(outputs.semantic, outputs.instance, [self.sample.metainfo])
        return result["pred_panoptic_seg"]


HEURISTIC_OPTIONS = {
    *("thing_labels", "stuff_labels", "mask_mode", "pad_handling"),
    *("score_thr", "overlap_thr", "stuff_area", "type"),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(path, id=path.stem) for path in golden_files(SYSTEM, "full_*.npz")],
)
def case(request):
    return Case(request.param)


@pytest.fixture(scope="module")
def outputs(case):
    with torch.no_grad():
        return case.model.forward_heads(case.image, [case.sample])


@pytest.fixture(scope="module")
def order(case, outputs):
    """Position of the file's detections in ours: there by class, here by score."""
    (found,) = outputs.instance
    ours = np.lexsort((-found.scores.numpy(), found.labels.numpy()))
    theirs = np.lexsort((-case.data["det_scores"], case.data["det_labels"]))
    result = torch.zeros(len(ours), dtype=torch.long)
    result[theirs] = torch.from_numpy(ours)
    return result


def test_features_and_proposals(case):
    data, model = case.data, case.model
    with torch.no_grad():
        feats = model.extract_feat(case.image)
        logits, _ = model.rpn_head(feats)
        (proposals,) = model.propose(feats, [case.sample.metainfo])
    for number, feat in enumerate(feats, 2):
        close(feat[0, ::32], data[f"p{number}_every_32th"])
    for number, level in enumerate(logits):
        close(level[0], data[f"rpn_logits_{number}"])
    assert len(proposals) == int(data["num_proposals"])
    expected = data["proposals_first100"]
    ours = proposals[: len(expected)]
    close(ours.scores, data["proposal_scores_first100"])
    # Scores that are equal up to rounding may be swapped.
    gap = np.abs(ours.bboxes[:, None].numpy() - expected).max(2)
    assert gap.min(1).max() < 1e-3
    assert (gap.diagonal() < 1e-3).mean() > 0.9


def test_box_head(case):
    data, model = case.data, case.model
    boxes = torch.from_numpy(data["proposals_first100"])[: len(data["box_cls_logits_first10"])]
    with torch.no_grad():
        feats = model.extract_feat(case.image)
        rois = torch.nn.functional.pad(boxes, (1, 0))
        results = model.roi_head._bbox_forward(feats, rois)
    close(results["cls_score"].roll(1, 1), data["box_cls_logits_first10"], rtol=1e-3)
    deltas = torch.nn.functional.pad(results["bbox_pred"], (4, 0))[:, ::5]
    reference = data["box_reg_first10_every_5th"]
    foreground = np.arange(0, 4 * model.roi_head.bbox_head.num_classes + 4, 5) >= 4
    close(deltas[:, foreground], reference[:, foreground], rtol=1e-3)


def test_detections(case, outputs, order):
    data = case.data
    found = outputs.instance[0][order]
    np.testing.assert_array_equal(found.labels, data["det_labels"] - 1)
    close(found.scores, data["det_scores"])
    height, width = case.sample.metainfo["img_shape"]
    scale = np.float32([case.original[1] / width, case.original[0] / height] * 2)
    close(found.bboxes / scale, data["det_boxes"], atol=1e-3)


def test_masks(case, outputs, order):
    data = case.data
    found = outputs.instance[0][order]
    expected = data["mask_prob_first10"]
    close(found.mask_logits[: len(expected)].sigmoid(), expected, atol=1e-3)
    packed = data["mask_packed"]
    masks = case.model.fusion_head.paste(found[: len(packed)], case.original).to_full()
    bits = np.unpackbits(packed, axis=1)[:, : masks[0].numel()]
    assert (masks.flatten(1).numpy() != bits.astype(bool)).mean() < 1e-4


def test_semantic_branch(case, outputs):
    data = case.data
    size = tuple(case.image.shape[2:])
    full = resize_bilinear(outputs.semantic, size, align_corners=True)
    close(full[0, :, ::8, ::8], data["semantic_logits_every_8th"], rtol=1e-3)
    channels = case.model.fusion_head.semantic_channels(outputs.semantic[0], case.sample.metainfo)
    assert (channels.numpy() != data["semantic_argmax"]).mean() <= 1e-4


@torch.no_grad()
def test_relations(case, outputs, order):
    data = case.data
    (found,) = outputs.instance
    if "relation_val" in data:
        close(found.relation_values[order], data["relation_val"], rtol=1e-3)
    if "occlusion_vals" in data:
        pairs = order[torch.cartesian_prod(torch.arange(len(order)), torch.arange(len(order)))]
        probability = found.occlusion(pairs).reshape(len(order), -1)
        np.testing.assert_array_equal(probability > 0.5, data["occlusion_vals"])
    assert "relation_val" in data or "occlusion_vals" in data


def test_panoptic_maps(case, outputs):
    methods = [key.removeprefix("panoptic_") for key in case.data if key.startswith("panoptic_")]
    assert methods
    for method in methods:
        check_segments(
            case.fuse(method, outputs),
            case.data[f"panoptic_{method}"],
            case.data[f"categories_{method}"],
        )


def check_segments(panoptic: Any, expected: np.ndarray, categories: np.ndarray) -> None:
    """Compare partitions and categories; numbers may differ."""
    index = panoptic.index_map[0].numpy()
    ids = [COCO_PANOPTIC[one["label"]].dataset_id for one in panoptic.segments_info]
    assert sorted(ids) == sorted(categories.tolist())
    table = np.zeros((len(ids) + 1, len(categories) + 1), np.int64)
    np.add.at(table, (index, expected), 1)
    partner = table.argmax(1)
    assert table.max(1).sum() >= 0.9999 * index.size
    assert partner[0] == 0 or not table[0].any()
    for ours, theirs in enumerate(partner[1:].tolist()):
        assert theirs
        assert ids[ours] == categories[theirs - 1]
