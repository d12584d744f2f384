"""Anchors, box coders, assigners and their conventions."""

from .detectron import (
    DetectronAnchorGenerator,
    DetectronBoxCoder,
    DetectronBoxOverlaps,
    inclusive_area,
)

__all__ = [
    "DetectronAnchorGenerator",
    "DetectronBoxCoder",
    "DetectronBoxOverlaps",
    "inclusive_area",
]
