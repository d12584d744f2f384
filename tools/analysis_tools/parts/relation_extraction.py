"""Extraction of relations from COCO's annotations."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mmpanoptic.datasets.converters.relation_files import extract_relations, load_set
from mmpanoptic.datasets.converters.relations import RelationOptions
from tests.reference import rap
from tests.reference.rap_scene import write_coco_set

DESCRIPTION = "40 images of 480 x 640 with 7.5 things each: both JSONs to relations."
BASELINE = "image and PNG decoded, every mask and pair at full size, as published."
SIZES = {"default": (40, 480, 640), "small": (4, 60, 80)}


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Write a set; ``temporary`` removes it when it is gone."""
    temporary = tempfile.TemporaryDirectory()
    root = Path(temporary.name) / "set"
    write_coco_set(root, 0, *SIZES[size])
    return {"temporary": temporary, "root": root}


def baseline(inputs: dict[str, Any]) -> dict[Any, Any]:
    """Follow the published tool."""
    return rap.extract_relations(inputs["root"])


def ours(inputs: dict[str, Any]) -> dict[Any, Any]:
    """Do what tools/dataset_converters/coco_relations.py does, in one process."""
    source = load_set(inputs["root"] / "instances.json", inputs["root"] / "panoptic.json")
    return extract_relations(source, RelationOptions(), show_progress=False)[0]


def check(expected: dict[Any, Any], got: dict[Any, Any]) -> None:
    """Compare all relations, order included."""
    if expected != got:
        raise AssertionError("the relations differ")
    if not any(got.values()):
        raise AssertionError("there are no relations")
