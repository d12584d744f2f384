"""The classes of the shapes dataset."""

from __future__ import annotations

from typing import Any

from mmpanoptic.structures import LabelTable

# The ids are sparse on purpose, as COCO's are: code that takes an id for a label fails here too.
CATEGORIES: list[dict[str, Any]] = [
    {"id": 1, "name": "disk", "isthing": 1, "color": (230, 57, 70)},
    {"id": 2, "name": "square", "isthing": 1, "color": (247, 127, 20)},
    {"id": 4, "name": "triangle", "isthing": 1, "color": (250, 238, 60)},
    {"id": 5, "name": "star", "isthing": 1, "color": (168, 88, 220)},
    {"id": 7, "name": "ring", "isthing": 1, "color": (56, 132, 244)},
    {"id": 9, "name": "cross", "isthing": 1, "color": (46, 196, 112)},
    {"id": 21, "name": "stripes", "isthing": 0, "color": (120, 144, 156)},
    {"id": 22, "name": "checks", "isthing": 0, "color": (188, 150, 118)},
    {"id": 24, "name": "dots", "isthing": 0, "color": (150, 128, 176)},
    {"id": 25, "name": "grain", "isthing": 0, "color": (112, 128, 80)},
    {"id": 28, "name": "plain", "isthing": 0, "color": (176, 214, 224)},
]

SHAPES_TABLE = LabelTable.from_categories(CATEGORIES)
"""Label table of the shapes dataset: six things, five stuff classes."""
