"""Draw Cityscapes' ``labelIds`` and ``instanceIds`` maps from the polygon files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmpanoptic.utils.cityscapes_labels import (
    CITYSCAPES_LABELS,
    INSTANCE_FACTOR,
    CityscapesLabel,
)
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.label_png import write_label_png

from .cityscapes import CityscapesFolders
from .incremental import Job, Summary, convert_files
from .polygon_file import Points, PolygonFile, count_problem

_BY_NAME = {label.name: label for label in CITYSCAPES_LABELS}
_NOT_DRAWN = "license plate"
_SUFFIX = "_gtFine_polygons.json"


def draw_polygons(folders: CityscapesFolders, split: str, nproc: int = 1) -> Summary:
    """Draw the maps that are missing; existing ones are kept, even older ones.

    The rasterization of a few border pixels depends on the Pillow version (0 to 8 pixels per
    image), so the official PNGs are preferred where they exist.

    Args:
        folders: Where things are.
        split: ``train``, ``val`` or ``test``.
        nproc: Number of processes.

    Returns:
        Summary: What was done.
    """
    jobs = []
    for path in sorted((folders.gt / split).glob(f"*/*{_SUFFIX}")):
        stem = path.name[: -len(_SUFFIX)]
        kinds = ("labelIds", "instanceIds")
        outputs = tuple(path.with_name(f"{stem}_gtFine_{kind}.png") for kind in kinds)
        jobs.append(Job(stem, (), outputs, path))
    if not jobs:
        raise ValueError(
            f"{folders.gt / split}/<city>/ holds no *{_SUFFIX} to draw; unpack "
            "gtFine_trainvaltest.zip there"
        )
    name, folder = f"polygons {split}", folders.gt / split
    return convert_files(_draw, jobs, name, folder, nproc, adopt=True)


def _draw(job: Job) -> None:
    labels, instances = draw_maps(load_json_object(job.data), job.data)
    for output, values in zip(job.outputs, (labels, instances), strict=True):
        if not output.exists():
            write_label_png(output, values)


def draw_maps(content: Mapping[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Draw the objects of a polygon file in order, later ones over earlier ones.

    Args:
        content: Of the file: ``imgHeight``, ``imgWidth``, ``objects``.
        path: Named in messages.

    Returns:
        tuple[np.ndarray, np.ndarray]: Label ids, uint8 ``(H, W)``, and instance ids, uint16
        ``(H, W)``.

    Raises:
        PanopticFormatError: Listing fields that are missing or wrong, unknown labels, broken
            polygons, and classes with more instances than their numbers can tell.
    """
    reader = PolygonFile(content, path)
    size, objects = reader.size(), list(_objects(reader))
    reader.raise_problems()
    labels, instances = Image.new("L", size, 0), Image.new("I", size, 0)
    label_pen, instance_pen = ImageDraw.Draw(labels), ImageDraw.Draw(instances)
    for label, value, polygon in objects:
        label_pen.polygon(polygon, fill=label.id)
        instance_pen.polygon(polygon, fill=value)
    return np.array(labels), np.array(instances).astype(np.uint16)


def _objects(reader: PolygonFile) -> Iterator[tuple[CityscapesLabel, int, Points]]:
    """Yield label, instance value and polygon of everything that is drawn."""
    numbers: Counter[str] = Counter()
    for place, written, polygon in reader.objects():
        group = written not in _BY_NAME and written.endswith("group")
        name = written[: -len("group")] if group else written
        if name == _NOT_DRAWN:
            continue
        if name not in _BY_NAME:
            reader.add("unknown_category", f"{place}: unknown label {written!r}")
            continue
        if len(polygon) < 2:
            reader.add("bad_field", f"{place} ({written}): polygon has {len(polygon)} point")
            continue
        label = _BY_NAME[name]
        value = label.id
        if label.has_instances and not group:
            # Numbered in file order, also those that others hide later.
            value = label.id * INSTANCE_FACTOR + numbers[name]
            numbers[name] += 1
        yield label, value, polygon
    for name, count in numbers.items():
        if count > INSTANCE_FACTOR:
            reader.add(*count_problem(name, count, INSTANCE_FACTOR, _BY_NAME[name].id))
