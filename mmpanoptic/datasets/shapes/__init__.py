"""The built-in dataset: generated scenes in COCO-panoptic format."""

from .catalog import SHAPES_TABLE
from .dataset import ShapesDataset
from .generator import ShapesSettings, SplitReport, generate_shapes, make_scene
from .scene import Scene, draw_scene

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
