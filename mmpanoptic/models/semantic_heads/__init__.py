"""Semantic heads: features to class logits."""

from .deeplab_head import DeepLabHead
from .efficientps import EfficientPSHead
from .panoptic_fpn_head import PanopticFPNSemanticHead

__all__ = ["DeepLabHead", "EfficientPSHead", "PanopticFPNSemanticHead"]
