"""Transforms of panoptic samples; mmcv's are registered, too."""

from .classification import ColorFactors, PackClassInputs, RandomAreaCrop
from .color import ColorJitter, StretchContrast
from .geometry import PanopticPad, PanopticRandomFlip, RandomCrop
from .loading import LoadImage, LoadPanopticAnnotations
from .packing import PackPanopticInputs
from .resize import ResizeScaleJitter, ResizeShortestEdge
from .resize_crop import ResizeCrop

__all__ = [
    "LoadImage",
    "LoadPanopticAnnotations",
    "ResizeShortestEdge",
    "ResizeScaleJitter",
    "PanopticRandomFlip",
    "RandomCrop",
    "ResizeCrop",
    "PanopticPad",
    "ColorJitter",
    "StretchContrast",
    "PackPanopticInputs",
    "RandomAreaCrop",
    "ColorFactors",
    "PackClassInputs",
]
