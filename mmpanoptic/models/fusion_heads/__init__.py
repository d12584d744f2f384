"""Fusion heads: semantic and instance outputs to one panoptic map."""

from .adaptive_logit import AdaptiveLogitFusionHead
from .center_grouping import CenterGroupingHead, FullSizeOutputs
from .centers import assign_to_centers, find_centers, find_centers_padded
from .heuristic import HeuristicFusionHead
from .label_resize import LabelResizeFusionHead
from .multicut import MulticutHead
from .occlusion_order import OcclusionFusionHead
from .panoptic_merge import group_things, merge_segments, segment_statistics
from .relation_order import RelationFusionHead
from .saved_instances import SavedInstanceFusionHead
from .semantic_only import SemanticOnlyHead
from .solov2_fusion import SOLOv2FusionHead

__all__ = [
    "AdaptiveLogitFusionHead",
    "CenterGroupingHead",
    "FullSizeOutputs",
    "HeuristicFusionHead",
    "LabelResizeFusionHead",
    "MulticutHead",
    "OcclusionFusionHead",
    "RelationFusionHead",
    "SOLOv2FusionHead",
    "SavedInstanceFusionHead",
    "SemanticOnlyHead",
    "assign_to_centers",
    "find_centers",
    "find_centers_padded",
    "group_things",
    "merge_segments",
    "segment_statistics",
]
