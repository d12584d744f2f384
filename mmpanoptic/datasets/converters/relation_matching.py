"""Which instance annotation belongs to which thing segment of the panoptic annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

BoxMatch = tuple[int, int, int, int]

_FARTHEST = 9999.0
"""Boxes at this distance or beyond never match."""

Entries = Sequence[Mapping[str, Any]]


def match_nearest_box(instances: Entries, segments: Entries) -> dict[int, int]:
    """Match as published: by the distance of ``(x, y, width, height)``, whatever the classes.

    A segment whose nearest instance is taken is not matched and takes the earlier segment's match
    away; a third one is matched again.

    Args:
        instances (Sequence[Mapping]): N annotations with ``bbox``.
        segments (Sequence[Mapping]): M thing segments with ``bbox``, in file order.

    Returns:
        dict[int, int]: Position of the segment by position of the instance.
    """
    if not instances or not segments:
        return {}
    boxes = np.array([instance["bbox"] for instance in instances], np.float64)
    wanted = np.array([segment["bbox"] for segment in segments], np.float64)
    distance = np.sqrt(((wanted[:, None] - boxes[None]) ** 2).sum(2))
    matches: dict[int, int] = {}
    for position, number in enumerate(distance.argmin(1).tolist()):
        if distance[position, number] >= _FARTHEST:
            continue
        if number in matches:
            del matches[number]
        else:
            matches[number] = position
    return matches


def match_box_overlap(instances: Entries, segments: Entries) -> dict[int, int]:
    """Match boxes of the same class one to one, the best overlap first.

    Args:
        instances (Sequence[Mapping]): N annotations with ``bbox`` and ``category_id``.
        segments (Sequence[Mapping]): M thing segments with the same.

    Returns:
        dict[int, int]: Position of the segment by position of the instance.
    """
    if not instances or not segments:
        return {}
    overlap = _box_iou([s["bbox"] for s in segments], [i["bbox"] for i in instances])
    classes = [np.array([e["category_id"] for e in entries]) for entries in (segments, instances)]
    overlap[classes[0][:, None] != classes[1][None]] = 0
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for flat in np.argsort(-overlap, axis=None, kind="stable").tolist():
        position, number = divmod(flat, len(instances))
        if overlap[position, number] <= 0:
            break
        if position not in taken and number not in matches:
            matches[number] = position
            taken.add(position)
    return matches


def match_segment_id(instances: Entries, segments: Entries) -> dict[int, int]:
    """Match by ``segment_id``, which the annotations of the shapes dataset have.

    Args:
        instances (Sequence[Mapping]): N annotations with ``segment_id``.
        segments (Sequence[Mapping]): M thing segments with ``id``.

    Returns:
        dict[int, int]: Position of the segment by position of the instance.

    Raises:
        ValueError: If an annotation has no such field.
    """
    position = {segment["id"]: k for k, segment in enumerate(segments)}
    matches = {}
    for number, instance in enumerate(instances):
        if "segment_id" not in instance:
            raise ValueError(
                f"instance {instance['id']!r} has no segment_id, which this matching needs; "
                "choose another one"
            )
        if instance["segment_id"] in position:
            matches[number] = position[instance["segment_id"]]
    return matches


def _box_iou(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> np.ndarray:
    """Compute the IoU ``(M, N)`` of boxes x, y, width, height."""
    a = np.array(first, np.float64)[:, None]
    b = np.array(second, np.float64)[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.clip(high - low, 0, None).prod(2)
    union = a[..., 2:].prod(2) + b[..., 2:].prod(2) - common
    return common / np.where(union > 0, union, 1)


MATCHERS: dict[str, Callable[[Entries, Entries], dict[int, int]]] = {
    "reference": match_nearest_box,
    "iou": match_box_overlap,
    "segment_id": match_segment_id,
}
"""Ways to match: as published; by overlap and class; by the id in the annotation."""
