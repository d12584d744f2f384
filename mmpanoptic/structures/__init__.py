"""Boxed masks, label tables, segment ids, run lengths, panoptic maps: torch and NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .ids import MAX_ID, VOID_ID, id2rgb, rgb2id
from .label_table import IGNORE_LABEL, Label, LabelTable, distinct_color
from .relations import OVERLAP_FIELD, occluder_matrix, relation_matrix
from .runs import (
    FlatRuns,
    Runs,
    color_runs,
    find_runs,
    flat_runs,
    joint_color_runs,
    lookup_sorted,
    segment_statistics,
    sorted_unique,
    undo_png_filters,
)

if TYPE_CHECKING:
    from .boxed_masks import BoxedMasks
    from .panoptic import (
        SegmentInfo,
        as_tensor_on,
        index_lookup,
        make_panoptic_data,
        semantic_map,
        to_mmdet_panoptic,
    )

# These need torch; who reads label tables and maps from files does not.
__getattr__ = lazy_names(
    __name__,
    {
        "boxed_masks": "BoxedMasks",
        "panoptic": (
            "SegmentInfo as_tensor_on index_lookup make_panoptic_data semantic_map "
            "to_mmdet_panoptic"
        ),
    },
)

__all__ = [
    "BoxedMasks",
    "as_tensor_on",
    "MAX_ID",
    "VOID_ID",
    "id2rgb",
    "rgb2id",
    "IGNORE_LABEL",
    "Label",
    "LabelTable",
    "distinct_color",
    "OVERLAP_FIELD",
    "occluder_matrix",
    "relation_matrix",
    "FlatRuns",
    "Runs",
    "color_runs",
    "find_runs",
    "flat_runs",
    "joint_color_runs",
    "lookup_sorted",
    "segment_statistics",
    "sorted_unique",
    "undo_png_filters",
    "SegmentInfo",
    "index_lookup",
    "make_panoptic_data",
    "semantic_map",
    "to_mmdet_panoptic",
]
