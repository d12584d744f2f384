"""Necks: pyramids between backbone and heads."""

from .simple_feature_pyramid import SimpleFeaturePyramid
from .two_way_fpn import TwoWayFPN

__all__ = ["SimpleFeaturePyramid", "TwoWayFPN"]
