"""Relation-ordered fusion of RAP."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmpanoptic.models.fusion_heads.ordered_fusion import RelationFusionHead
from tests.reference.rap import compare_partitions, fuse_relation
from tests.reference.rap_scene import finish_map, full_masks, fusion_inputs

DESCRIPTION = (
    "100 detections (masks of 28 x 28 in boxes) and channels of 800 x 1333 to a panoptic map, "
    "pasting included; case pasted: the baseline gets the masks for nothing and makes no PNG."
)
BASELINE = "the published procedure: run lengths, whole images per instance and pair, a PNG."
CASES: dict[str, dict[str, Any]] = {"": {}, "pasted": {"pasted": True}}


def make_inputs(size: str = "default", pasted: bool = False) -> dict[str, Any]:
    """Draw detections."""
    return fusion_inputs(RelationFusionHead, size, pasted, overlap_thr=0.6)


def baseline(inputs: dict[str, Any]) -> np.ndarray:
    """Paste and store all masks, then take one instance after the other; make the PNG."""
    found = inputs["found"]
    labels, values = found.labels.numpy(), found.relation_values.numpy()
    segments = fuse_relation(full_masks(inputs), inputs["order"], labels, values, (0.6, 0.5))
    return finish_map(segments, inputs)


def ours(inputs: dict[str, Any]) -> np.ndarray:
    """Do what the fusion head does."""
    result = inputs["head"].predict_single(inputs["channels"], inputs["found"])
    return result["pred_panoptic_seg"].index_map[0].numpy()


def check(expected: np.ndarray, got: np.ndarray) -> None:
    """Compare the maps as partitions."""
    compare_partitions(expected, got)
