"""Necks: pyramids between backbone and heads."""

from .two_way_fpn import TwoWayFPN

__all__ = ["TwoWayFPN"]
