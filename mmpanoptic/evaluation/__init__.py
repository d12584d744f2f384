"""Metrics: panoptic quality, Cityscapes pixel and instance level, mIoU, COCO AP."""

from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, PanopticFormatWarning

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

__all__ = [
    "CityscapesInstanceMetric",
    "CityscapesPixelMetric",
    "ClassAccuracyMetric",
    "CocoInstanceMetric",
    "IndexedMetric",
    "SemanticIoUMetric",
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
