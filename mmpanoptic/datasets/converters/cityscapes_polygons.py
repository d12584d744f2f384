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
from mmpanoptic.utils.coco_file import CocoFile, load_json_object
from mmpanoptic.utils.label_png import write_label_png
from mmpanoptic.utils.segmentations import check_segmentation

from .cityscapes import CityscapesFolders
from .incremental import Job, Summary, convert_files

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
    reader = CocoFile(content, path)
    if not reader.has_fields(content, ("imgWidth", "imgHeight", "objects"), "the polygon file"):
        reader.raise_problems()
    size = (content["imgWidth"], content["imgHeight"])
    if not all(type(side) is int and side > 0 for side in size):
        detail = f"imgWidth and imgHeight must be whole numbers above 0, got {size}"
        reader.add("bad_field", detail)
    objects = list(_objects(reader))
    reader.raise_problems()
    labels, instances = Image.new("L", size, 0), Image.new("I", size, 0)
    label_pen, instance_pen = ImageDraw.Draw(labels), ImageDraw.Draw(instances)
    for label, value, polygon in objects:
        label_pen.polygon(polygon, fill=label.id)
        instance_pen.polygon(polygon, fill=value)
    return np.array(labels), np.array(instances).astype(np.uint16)


def _objects(
    reader: CocoFile,
) -> Iterator[tuple[CityscapesLabel, int, list[tuple[float, float]]]]:
    """Yield label, instance value and polygon of everything that is drawn."""
    numbers: Counter[str] = Counter()
    for position, entry in enumerate(reader.entries("objects")):
        place = f"objects[{position}]"
        if isinstance(entry, Mapping) and entry.get("deleted"):
            continue
        if not reader.has_fields(entry, ("label", "polygon"), place):
            continue
        name = entry["label"]
        if not isinstance(name, str):
            reader.add("bad_field", f"{place}.label must be text, got {name!r}")
            continue
        group = name not in _BY_NAME and name.endswith("group")
        name = name[: -len("group")] if group else name
        if name == _NOT_DRAWN:
            continue
        if name not in _BY_NAME:
            reader.add("unknown_category", f"{place}: unknown label {entry['label']!r}")
            continue
        label = _BY_NAME[name]
        value = label.id
        if label.has_instances and not group:
            # Numbered in file order, also those that others hide later.
            value = label.id * INSTANCE_FACTOR + numbers[name]
            numbers[name] += 1
        polygon = _polygon(reader, entry["polygon"], f"{place} ({name})")
        if polygon is not None:
            yield label, value, polygon
    for name, count in numbers.items():
        if count > INSTANCE_FACTOR:
            detail = (
                f"{count} instances of {name}; the ids {_BY_NAME[name].id} * {INSTANCE_FACTOR} + "
                f"number tell {INSTANCE_FACTOR} apart, more would become another class"
            )
            reader.add("too_many_instances", detail)


def _polygon(reader: CocoFile, points: Any, place: str) -> list[tuple[float, float]] | None:
    line = isinstance(points, list) and len(points) == 2  # Pillow draws it
    try:
        flat = check_segmentation([[*points, points[-1]] if line else points])[0]
    except ValueError as error:
        reader.add("bad_field", f"{place}: polygon {error}")
        return None
    return list(zip(map(float, flat[::2]), map(float, flat[1::2]), strict=True))
