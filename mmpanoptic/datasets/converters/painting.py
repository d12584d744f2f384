"""Panoptic maps from masks that may overlap, and from label plus instance maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.structures import LabelTable, find_runs, segment_statistics
from mmpanoptic.structures.runs import Runs, lookup_sorted
from mmpanoptic.utils.files import is_inside
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error
from mmpanoptic.utils.segmentations import count_text

from .incremental import Job, Record
from .maps import describe_segments, write_panoptic_png

OVERLAP_RULES = ("smaller-on-top", "first", "last", "score", "error")
"""Which of two overlapping masks is on top: the smaller one, the first, the last, the one with
the highest score; or none is allowed."""

_MANY_RUNS = 10_000
"""From here on it is faster to decode a mask than to write its runs one by one."""


class Shape(NamedTuple):
    """One mask to paint.

    Attributes:
        code (dict): Run-length code as pycocotools makes it, of the image's size.
        label (int): Contiguous label.
        iscrowd (int): 0 or 1. A crowd says that there are more of a thing class; it never covers
            a single instance, whatever the rule. Stuff has none.
        score (float): Decides with the rule ``score``.
        name (str): Names the shape in messages.
        outside (bool): It lies beyond the image's edges; only for the balance.
    """

    code: dict[str, Any]
    label: int
    iscrowd: int = 0
    score: float = 0.0
    name: str = ""
    outside: bool = False


class Painting(NamedTuple):
    """A panoptic map and what became of every shape.

    Attributes:
        ids (np.ndarray): int32 ``(H, W)``.
        segments (list[dict]): ``segments_info``.
        fates (list[str]): Of each shape, a key of
            :data:`~mmpanoptic.datasets.converters.balance.FATES`.
    """

    ids: np.ndarray
    segments: list[dict[str, Any]]
    fates: list[str]


def paint_shapes(
    shapes: Sequence[Shape],
    size: tuple[int, int],
    table: LabelTable,
    overlap: str = "smaller-on-top",
    background: int | None = None,
) -> Painting:
    """Paint masks into one panoptic map.

    All masks of a stuff class become one segment. Ids are 1, 2, ... ordered by label and then by
    the order of the shapes; what is wholly covered is dropped, and told.

    Args:
        shapes: In the order of the file.
        size: ``(H, W)``.
        table: The classes.
        overlap: Of :data:`OVERLAP_RULES`.
        background: Contiguous label of a stuff class for pixels without a mask; None leaves void.

    Returns:
        Painting: The map, its segments, and the fate of each shape.

    Raises:
        ValueError: If masks overlap and the rule is ``error``; it names two of them.
    """
    from pycocotools import mask as coco_mask

    shapes = [s if table[s.label].isthing else s._replace(iscrowd=0) for s in shapes]
    # By columns, as run-length codes run; 0 = nobody, k = the k-th shape.
    owner = np.zeros(size, np.uint16 if len(shapes) < 65535 else np.int32, order="F")
    slots = [_slot(shape, position, table) for position, shape in enumerate(shapes)]
    areas = _areas(shapes)
    single = np.array([False, *(table[s.label].isthing and not s.iscrowd for s in shapes)])
    for position in _paint_order(shapes, areas, overlap):
        if not areas[position]:
            continue
        if overlap != "error" and not shapes[position].iscrowd:
            _fill(owner, shapes[position].code, position + 1)
            continue
        mask = coco_mask.decode(shapes[position].code).view(bool)
        if shapes[position].iscrowd:
            mask &= ~single[owner]
        if overlap == "error":
            _refuse_overlap(owner, mask, position, shapes, slots, table)
        np.copyto(owner, position + 1, where=mask)
    keys = list(slots)
    if background is not None:
        keys.append((background, -1))
        owner[owner == 0] = len(keys)
    runs = find_runs(np.ascontiguousarray(owner))
    pixels = np.bincount(runs.value, runs.length, len(keys) + 1)[1:]
    fates = list(map(_fate, shapes, areas, pixels[: len(shapes)].tolist()))
    return Painting(*_number(runs, pixels, keys, shapes, table), fates)


def _slot(shape: Shape, position: int, table: LabelTable) -> tuple[int, int]:
    """Label and, for things, the position: the order of the ids."""
    return shape.label, position if table[shape.label].isthing else -1


def _areas(shapes: Sequence[Shape]) -> list[int]:
    from pycocotools import mask as coco_mask

    return coco_mask.area([shape.code for shape in shapes]).tolist() if shapes else []


def _fill(owner: np.ndarray, code: dict[str, Any], value: int) -> None:
    """Write a value into the pixels of a mask: run by run, unless there are very many."""
    ends = np.cumsum(count_text(code["counts"]))
    pairs = list(zip(ends[:-1:2].tolist(), ends[1::2].tolist(), strict=False))
    if len(pairs) > _MANY_RUNS:
        from pycocotools import mask as coco_mask

        np.copyto(owner, value, where=coco_mask.decode(code).view(bool))
        return
    flat = owner.T.reshape(-1)  # a view: columns follow each other, as in the code
    for start, end in pairs:
        flat[start:end] = value


def _fate(shape: Shape, area: int, pixels: int) -> str:
    if pixels:
        return "crowd" if shape.iscrowd else "kept"
    if area:
        return "covered"
    return "outside" if shape.outside else "tiny"


def _paint_order(shapes: Sequence[Shape], areas: Sequence[int], overlap: str) -> list[int]:
    order = list(range(len(shapes)))
    if overlap == "smaller-on-top":
        return sorted(order, key=lambda position: -areas[position])
    if overlap == "first":
        return order[::-1]
    if overlap == "score":
        return sorted(order, key=lambda position: (shapes[position].score, -position))
    if overlap not in OVERLAP_RULES:
        raise ValueError(f"unknown rule {overlap!r}; known: {', '.join(OVERLAP_RULES)}")
    return order


def _refuse_overlap(
    below: np.ndarray,
    mask: np.ndarray,
    position: int,
    shapes: Sequence[Shape],
    slots: Sequence[tuple[int, int]],
    table: LabelTable,
) -> None:
    """Refuse a mask that covers a shape of another segment; what lies on its crowd is none."""
    label, iscrowd = shapes[position].label, shapes[position].iscrowd
    single = table[label].isthing and not iscrowd
    others = [
        k - 1
        for k in np.unique(below[mask]).tolist()
        if k and slots[k - 1] != slots[position] and not (single and shapes[k - 1].iscrowd)
    ]
    if not others:
        return
    pair = [
        f"{shapes[k].name or f'number {k + 1}'} ({table[shapes[k].label].name})"
        for k in (others[0], position)
    ]
    pixels = int((below[mask] == others[0] + 1).sum())
    raise ValueError(f"the masks {pair[0]} and {pair[1]} overlap in {pixels} pixels")


def _number(
    runs: Runs,
    pixels: np.ndarray,
    keys: Sequence[tuple[int, int]],
    shapes: Sequence[Shape],
    table: LabelTable,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Give the slots that have pixels the ids 1, 2, ... by label and order."""
    present = np.flatnonzero(pixels).tolist()
    ordered = sorted({keys[k] for k in present})
    place = {key: number for number, key in enumerate(ordered, 1)}
    numbers = np.zeros(len(keys) + 1, np.int32)
    for k in present:
        numbers[k + 1] = place[keys[k]]
    value = numbers[runs.value]
    area, box = segment_statistics(value.astype(np.int64) - 1, runs, len(ordered))
    segments = [
        {
            "id": number,
            "category_id": table[label].dataset_id,
            "iscrowd": shapes[position].iscrowd if position >= 0 else 0,
            "area": int(area[number - 1]),
            "bbox": box[number - 1].tolist(),
        }
        for number, (label, position) in enumerate(ordered, 1)
    ]
    return runs.expand(value), segments


def _head(segment: dict[str, Any], table: LabelTable, label: int) -> dict[str, Any]:
    return {"id": segment["id"], "category_id": table[label].dataset_id}


def _tail(segment: dict[str, Any]) -> dict[str, Any]:
    return {"area": segment["area"], "bbox": segment["bbox"]}


def combine_maps(
    labels: np.ndarray, instances: np.ndarray, table: LabelTable, zero_is_crowd: bool = False
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Make a panoptic map from contiguous labels and instance numbers.

    One segment per stuff class and one per (thing class, instance number): a number that two
    classes share makes two segments. Ids are 1, 2, ... ordered by label and instance number.

    Args:
        labels (np.ndarray): Integer ``(H, W)``, contiguous labels; negative = void.
        instances (np.ndarray): Integer ``(H, W)``, 0 = no instance; ignored at stuff pixels.
        table (LabelTable): The classes.
        zero_is_crowd (bool): Make thing pixels without an instance one crowd segment per class;
            else they are void.

    Returns:
        tuple[np.ndarray, list[dict]]: int32 ids ``(H, W)`` and ``segments_info``.
    """
    things = np.array([*table.isthing, False])  # position -1, void, is the last entry
    number = np.where(things[labels], instances, 0).astype(np.int64)
    code = labels.astype(np.int64) * (1 << 32) + number
    code[labels < 0] = -1
    if not zero_is_crowd:
        code[things[labels] & (number == 0)] = -1
    runs = find_runs(code)
    keys = np.unique(runs.value[runs.value >= 0])
    ids = runs.expand((lookup_sorted(keys, runs.value) + 1).astype(np.int32))
    segments = []
    for key, segment in zip(keys.tolist(), describe_segments(ids), strict=True):
        label, instance = key >> 32, key & 0xFFFFFFFF
        crowd = int(table[label].isthing and instance == 0)
        segments.append({**_head(segment, table, label), "iscrowd": crowd, **_tail(segment)})
    return ids, segments


def write_record(
    job: Job, image: dict[str, Any], ids: np.ndarray, segments: list[dict[str, Any]], **extra: Any
) -> Record:
    """Write the PNG of a job and return its record for the panoptic JSON."""
    write_panoptic_png(job.outputs[0], ids)
    annotation = {"image_id": image["id"], "file_name": job.key, "segments_info": segments}
    return {"image": image, "annotation": annotation, **extra}


def png_name(file_name: Any, source: Path) -> str:
    """Name the PNG of an image: its relative path with another extension.

    Args:
        file_name: As in a JSON.
        source: The JSON, for messages.

    Returns:
        str: With forward slashes.

    Raises:
        PanopticFormatError: If it is no text or leads out of its folder.
    """
    if not isinstance(file_name, str) or not file_name:
        raise format_error("bad_field", f"file_name must be text, got {file_name!r}", source)
    if not is_inside(file_name):
        detail = f"the file_name {file_name!r} leads out of its folder"
        raise format_error("unsafe_path", detail, source)
    return f"{Path(file_name).with_suffix('').as_posix()}.png"


def raise_listed(kind: str, detail: str, paths: Iterable[Path]) -> None:
    """Raise one error that names all given files; without any, do nothing."""
    problems = [FormatProblem(kind, detail, str(path)) for path in paths]
    if problems:
        raise PanopticFormatError(problems)
