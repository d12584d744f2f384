"""The built-in dataset: generated scenes in COCO-panoptic format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy_names
from .catalog import SHAPES_TABLE
from .generator import ShapesSettings, SplitReport, generate_shapes, make_scene
from .scene import Scene, draw_scene

if TYPE_CHECKING:
    from .dataset import ShapesDataset

__getattr__ = lazy_names(__name__, {"dataset": "ShapesDataset"})

__all__ = [
    "SHAPES_TABLE",
    "Scene",
    "ShapesDataset",
    "ShapesSettings",
    "SplitReport",
    "draw_scene",
    "generate_shapes",
    "make_scene",
]
