"""Panoptic maps from masks that may overlap, and from label plus instance maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.structures import LabelTable, find_runs
from mmpanoptic.structures.runs import lookup_sorted
from mmpanoptic.utils.files import is_inside
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error

from .incremental import Job, Record
from .maps import describe_segments, write_panoptic_png

OVERLAP_RULES = ("error", "first", "last", "score")
"""Overlapping masks: refuse; the first, the last or the one with the highest score is on top."""


class Shape(NamedTuple):
    """One mask to paint.

    Attributes:
        mask (Callable[[], np.ndarray]): Returns bool ``(H, W)``; called once, so that only one
            full-size mask is in memory.
        label (int): Contiguous label.
        iscrowd (int): 0 or 1.
        score (float): Decides with the rule ``score``.
        name (str): Names the shape in messages.
    """

    mask: Callable[[], np.ndarray]
    label: int
    iscrowd: int = 0
    score: float = 0.0
    name: str = ""


def paint_shapes(
    shapes: Sequence[Shape],
    size: tuple[int, int],
    table: LabelTable,
    overlap: str = "error",
    background: int | None = None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Paint masks into one panoptic map.

    All masks of a stuff class become one segment. Ids are 1, 2, ... ordered by label and then by
    the order of the shapes; what is wholly covered is dropped.

    Args:
        shapes: In the order of the file.
        size: ``(H, W)``.
        table: The classes.
        overlap: Of :data:`OVERLAP_RULES`.
        background: Contiguous label of a stuff class for pixels without a mask; None leaves void.

    Returns:
        tuple[np.ndarray, list[dict]]: int32 ids ``(H, W)`` and ``segments_info``.

    Raises:
        ValueError: If masks overlap and the rule is ``error``; it names two of them.
    """
    owner = np.zeros(size, np.int32)  # 0 = nobody, k = slot k
    slots = [_slot(shape, position, table) for position, shape in enumerate(shapes)]
    for position in _paint_order(shapes, overlap):
        mask = shapes[position].mask()
        if overlap == "error":
            _refuse_overlap(owner, mask, position, shapes, slots, table)
        owner[mask] = position + 1
    keys = list(slots)
    if background is not None:
        keys.append((background, -1))
        owner[owner == 0] = len(keys)
    return _number(owner, keys, shapes, table)


def _slot(shape: Shape, position: int, table: LabelTable) -> tuple[int, int]:
    """Label and, for things, the position: the order of the ids."""
    return shape.label, position if table[shape.label].isthing else -1


def _paint_order(shapes: Sequence[Shape], overlap: str) -> list[int]:
    order = list(range(len(shapes)))
    if overlap == "first":
        return order[::-1]
    if overlap == "score":
        return sorted(order, key=lambda position: (shapes[position].score, -position))
    if overlap not in OVERLAP_RULES:
        raise ValueError(f"unknown rule {overlap!r}; known: {', '.join(OVERLAP_RULES)}")
    return order


def _refuse_overlap(
    owner: np.ndarray,
    mask: np.ndarray,
    position: int,
    shapes: Sequence[Shape],
    slots: Sequence[tuple[int, int]],
    table: LabelTable,
) -> None:
    below = np.unique(owner[mask])
    others = [k - 1 for k in below.tolist() if k and slots[k - 1] != slots[position]]
    if not others:
        return
    pair = [
        f"{shapes[k].name or f'number {k + 1}'} ({table[shapes[k].label].name})"
        for k in (others[0], position)
    ]
    pixels = int((owner[mask] == others[0] + 1).sum())
    raise ValueError(
        f"the masks {pair[0]} and {pair[1]} overlap in {pixels} pixels; a panoptic map has one "
        "segment per pixel: choose which is on top with --overlap first, last or score"
    )


def _number(
    owner: np.ndarray,
    keys: Sequence[tuple[int, int]],
    shapes: Sequence[Shape],
    table: LabelTable,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Give the slots that have pixels the ids 1, 2, ... by label and order."""
    present = [k - 1 for k in np.unique(owner).tolist() if k]
    ordered = sorted({keys[k] for k in present})
    numbers = np.zeros(len(keys) + 1, np.int32)
    for k in present:
        numbers[k + 1] = ordered.index(keys[k]) + 1
    ids = numbers[owner]
    segments = []
    for (label, position), segment in zip(ordered, describe_segments(ids), strict=True):
        crowd = shapes[position].iscrowd if position >= 0 else 0
        segments.append({**_head(segment, table, label), "iscrowd": crowd, **_tail(segment)})
    return ids, segments


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
