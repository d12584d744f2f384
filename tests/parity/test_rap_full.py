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
from tests.golden import Golden, golden_cases
from tests.parity.rap_variants import SYSTEM, load_weights, model_config, normalise, weights
from tests.tolerances import UNMATCHED, Detections


class Case:
    """A golden file, its model, and the image as the model gets it."""

    def __init__(self, path: Path) -> None:
        self.data = Golden(path)
        body, head = path.stem.split("_")[1:3]
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


@pytest.fixture(scope="module", params=golden_cases(SYSTEM, "full_*.npz"))
def case(request):
    return Case(request.param)


@pytest.fixture(scope="module")
def outputs(case):
    with torch.no_grad():
        return case.model.forward_heads(case.image, [case.sample])


@pytest.fixture(scope="module")
def partner(case, outputs):
    """Number among ours of each of the file's detections, which are ordered otherwise there."""
    (found,) = outputs.instance
    height, width = case.sample.metainfo["img_shape"]
    scale = np.float32([case.original[1] / width, case.original[0] / height] * 2)
    ours = Detections(found.bboxes / scale, found.scores, found.labels + 1)
    keys = [f"det_{name}" for name in ("boxes", "scores", "labels")]
    return case.data.detections("rap.detections", keys, ours)


def test_features_and_proposals(case):
    data, model = case.data, case.model
    with torch.no_grad():
        feats = model.extract_feat(case.image)
        logits, _ = model.rpn_head(feats)
        (proposals,) = model.propose(feats, [case.sample.metainfo])
    for number, feat in enumerate(feats, 2):
        data.close("rap.neck", f"p{number}_every_32th", feat[0, ::32])
    for number, level in enumerate(logits):
        data.close("rap.rpn", f"rpn_logits_{number}", level[0])
    if not data.taken("num_proposals", len(proposals)):
        expected = int(data["num_proposals"])
        assert abs(len(proposals) - expected) <= UNMATCHED * expected
    first = slice(len(data["proposals_first100"]))
    keys = ("proposals_first100", "proposal_scores_first100")
    data.detections(
        "rap.proposals", keys, Detections(proposals.bboxes[first], proposals.scores[first])
    )


def test_box_head(case):
    data, model = case.data, case.model
    boxes = torch.from_numpy(data["proposals_first100"])[: len(data["box_cls_logits_first10"])]
    with torch.no_grad():
        feats = model.extract_feat(case.image)
        rois = torch.nn.functional.pad(boxes, (1, 0))
        results = model.roi_head._bbox_forward(feats, rois)
    logits = results["cls_score"].roll(1, 1)
    data.close("rap.box_head_logits", "box_cls_logits_first10", logits)
    deltas = torch.nn.functional.pad(results["bbox_pred"], (4, 0))[:, ::5]
    foreground = np.arange(0, 4 * model.roi_head.bbox_head.num_classes + 4, 5) >= 4
    at = np.s_[:, foreground]
    data.close("rap.box_head_deltas", "box_reg_first10_every_5th", deltas[at], at)


def test_masks(case, outputs, partner):
    data = case.data
    (found,) = outputs.instance
    known, numbers = paired(partner[: len(data["mask_prob_first10"])])
    probability = found.mask_logits[numbers].sigmoid()
    data.close("rap.masks", "mask_prob_first10", probability, known)
    known, numbers = paired(partner[: len(data["mask_packed"])])
    masks = case.model.fusion_head.paste(found[numbers], case.original).to_full().flatten(1)
    if not data.taken("mask_packed", np.packbits(masks, axis=1)):
        bits = np.unpackbits(data["mask_packed"][known], axis=1)[:, : masks.shape[1]]
        assert (masks.numpy() != bits.astype(bool)).mean() < 1e-4


def paired(partner: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """The file's detections that have a partner, and the numbers of the partners."""
    known = np.flatnonzero(partner >= 0)
    assert len(known) >= len(partner) - 1
    return known, torch.from_numpy(partner[known])


def test_semantic_branch(case, outputs):
    data = case.data
    size = tuple(case.image.shape[2:])
    full = resize_bilinear(outputs.semantic, size, align_corners=True)
    data.close("rap.semantic_logits", "semantic_logits_every_8th", full[0, :, ::8, ::8])
    channels = case.model.fusion_head.semantic_channels(outputs.semantic[0], case.sample.metainfo)
    data.alike("semantic_argmax", channels, 1 - 1e-4)


@torch.no_grad()
def test_relations(case, outputs, partner):
    data = case.data
    (found,) = outputs.instance
    known, numbers = paired(partner)
    if "relation_val" in data:
        data.close("rap.relation_values", "relation_val", found.relation_values[numbers], known)
    if "occlusion_vals" in data:
        probability = found.occlusion(torch.cartesian_prod(numbers, numbers))
        occludes = probability.reshape(len(numbers), -1) > 0.5
        data.equal("occlusion_vals", occludes, np.ix_(known, known))
    assert "relation_val" in data or "occlusion_vals" in data


def test_panoptic_maps(case, outputs):
    methods = [key.removeprefix("panoptic_") for key in case.data if key.startswith("panoptic_")]
    assert methods
    for method in methods:
        panoptic = case.fuse(method, outputs)
        index = panoptic.index_map[0].numpy()
        ids = [COCO_PANOPTIC[one["label"]].dataset_id for one in panoptic.segments_info]
        keys = (f"panoptic_{method}", f"categories_{method}")
        if case.data.taken(keys[0], index) and case.data.taken(keys[1], ids):
            continue
        check_segments(index, ids, *(case.data[key] for key in keys))


def check_segments(
    index: np.ndarray, ids: list[int], expected: np.ndarray, categories: np.ndarray
) -> None:
    """Compare partitions and categories; numbers may differ."""
    assert sorted(ids) == sorted(categories.tolist())
    table = np.zeros((len(ids) + 1, len(categories) + 1), np.int64)
    np.add.at(table, (index, expected), 1)
    partner = table.argmax(1)
    assert table.max(1).sum() >= 0.9999 * index.size
    assert partner[0] == 0 or not table[0].any()
    for ours, theirs in enumerate(partner[1:].tolist()):
        assert theirs
        assert ids[ours] == categories[theirs - 1]
