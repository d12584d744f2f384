"""Metrics: panoptic quality, Cityscapes pixel and instance level, mIoU, COCO AP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, PanopticFormatWarning

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .cityscapes_metric import CityscapesInstanceMetric, CityscapesPixelMetric
    from .class_metric import ClassAccuracyMetric
    from .coco_metric import CocoInstanceMetric
    from .indexed_metric import IndexedMetric
    from .panoptic_files import FileEvaluation, evaluate_files
    from .panoptic_metric import PanopticQualityMetric
    from .panoptic_quality import (
        Categories,
        CategoryStatistics,
        ImageMatch,
        PanopticQuality,
        SegmentMap,
        accumulate,
        match_segments,
        summarize,
    )
    from .semantic_metric import SemanticIoUMetric
    from .separate_evaluator import SeparateEvaluator

# Metrics need torch and mmengine; the evaluation of files does not.
__getattr__ = lazy_names(
    __name__,
    {
        "cityscapes_metric": "CityscapesInstanceMetric CityscapesPixelMetric",
        "class_metric": "ClassAccuracyMetric",
        "coco_metric": "CocoInstanceMetric",
        "indexed_metric": "IndexedMetric",
        "panoptic_files": "FileEvaluation evaluate_files",
        "panoptic_metric": "PanopticQualityMetric",
        "panoptic_quality": (
            "Categories CategoryStatistics ImageMatch PanopticQuality SegmentMap accumulate "
            "match_segments summarize"
        ),
        "semantic_metric": "SemanticIoUMetric",
        "separate_evaluator": "SeparateEvaluator",
    },
)

__all__ = [
    "CityscapesInstanceMetric",
    "CityscapesPixelMetric",
    "ClassAccuracyMetric",
    "CocoInstanceMetric",
    "IndexedMetric",
    "SemanticIoUMetric",
    "SeparateEvaluator",
    "FormatProblem",
    "PanopticFormatError",
    "PanopticFormatWarning",
    "FileEvaluation",
    "evaluate_files",
    "PanopticQualityMetric",
    "Categories",
    "CategoryStatistics",
    "ImageMatch",
    "PanopticQuality",
    "SegmentMap",
    "accumulate",
    "match_segments",
    "summarize",
]
