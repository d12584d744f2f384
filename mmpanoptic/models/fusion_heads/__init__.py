"""Fusion heads: semantic and instance outputs to one panoptic map."""

from .adaptive_logit import AdaptiveLogitFusionHead
from .center_grouping import CenterGroupingHead, FullSizeOutputs
from .mask_set import MaskSetFusionHead
from .multicut import MulticutHead
from .ordered_fusion import (
    HeuristicFusionHead,
    LabelResizeFusionHead,
    OcclusionFusionHead,
    RelationFusionHead,
)
from .saved_instances import SavedInstanceFusionHead
from .semantic_only import SemanticOnlyHead
from .solov2_fusion import SOLOv2FusionHead

__all__ = [
    "AdaptiveLogitFusionHead",
    "CenterGroupingHead",
    "FullSizeOutputs",
    "HeuristicFusionHead",
    "LabelResizeFusionHead",
    "MaskSetFusionHead",
    "MulticutHead",
    "OcclusionFusionHead",
    "RelationFusionHead",
    "SOLOv2FusionHead",
    "SavedInstanceFusionHead",
    "SemanticOnlyHead",
]
