"""RoI heads: what two-stage models compute for each box."""

from .normed_bbox_head import NormedFCBBoxHead
from .occlusion_head import OcclusionHead
from .panoptic_roi_head import DetectronRoIExtractor, PanopticRoIHead, to_original_size
from .relation_head import RelationHead
from .relation_roi_head import RelationRoIHead
from .searchable_mask_head import SearchableMaskHead
from .separable_mask_head import SeparableMaskHead
from .separable_rpn_head import SeparableRPNHead

__all__ = [
    "DetectronRoIExtractor",
    "NormedFCBBoxHead",
    "OcclusionHead",
    "PanopticRoIHead",
    "RelationHead",
    "RelationRoIHead",
    "SearchableMaskHead",
    "SeparableMaskHead",
    "SeparableRPNHead",
    "to_original_size",
]
