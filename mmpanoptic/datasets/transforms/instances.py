"""Boxes and masks of instances, from the index map or from an instance annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.structures import SegmentInfo, find_runs, segment_statistics
from mmpanoptic.utils.segmentations import decode

from .source_grid import SourceGrid


class InstanceArrays(NamedTuple):
    """Instances of one image as arrays.

    Attributes:
        boxes (np.ndarray): float32 ``(N, 4)``, x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
        labels (np.ndarray): int64 ``(N,)``, contiguous.
        masks (np.ndarray): uint8 ``(N, H, W)``, 0 or 1.
        numbers (np.ndarray): int64 ``(N,)``: index-map value of a segment, or position in
            ``results["instances"]``.
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    numbers: np.ndarray


def segment_instances(
    index_map: np.ndarray, segments_info: Sequence[SegmentInfo], crowd: bool
) -> InstanceArrays:
    """Derive the thing segments that have pixels; one pass over the map, then boxes only.

    Args:
        index_map (np.ndarray): ``(H, W)``, 0 = void, k = k-th segment.
        segments_info (Sequence[SegmentInfo]): All segments of the image, hidden ones included.
        crowd (bool): The crowds, or the single things.

    Returns:
        InstanceArrays: In the order of ``segments_info``.
    """
    runs = find_runs(index_map)
    position = runs.value.astype(np.int64) - 1
    area, box = segment_statistics(position, runs, len(segments_info))
    chosen = [
        position
        for position, segment in enumerate(segments_info)
        if segment["isthing"] and bool(segment["iscrowd"]) == crowd and area[position]
    ]
    masks = np.zeros((len(chosen), *index_map.shape), np.uint8)
    for mask, number in zip(masks, chosen, strict=True):
        x, y, width, height = box[number]
        window = np.s_[y : y + height, x : x + width]
        mask[window] = index_map[window] == number + 1
    boxes = box[chosen].reshape(-1, 4).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([segments_info[position]["label"] for position in chosen], np.int64)
    return InstanceArrays(boxes, labels, masks, np.array(chosen, np.int64) + 1)


def annotated_instances(
    instances: Sequence[Mapping[str, Any]], source_size: tuple[int, int], grid: SourceGrid
) -> tuple[InstanceArrays, InstanceArrays]:
    """Draw annotated (possibly overlapping) instances in the geometry of the augmented image.

    Args:
        instances (Sequence[Mapping]): With ``mask`` (polygons or run-length code at the size of
            the annotation), ``label`` and ``iscrowd``.
        source_size (tuple[int, int]): Height and width of the annotation.
        grid (SourceGrid): The geometry.

    Returns:
        tuple[InstanceArrays, InstanceArrays]: Single things and crowds that have pixels.
    """
    kept: tuple[list, list] = ([], [])
    for number, instance in enumerate(instances):
        mask = grid.gather(decode(instance["mask"], *source_size))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            kept[instance["iscrowd"]].append((box, instance["label"], mask, number))
    size = (len(grid.rows), len(grid.columns))
    return _stack(kept[0], size), _stack(kept[1], size)


def _stack(kept: Sequence[tuple], size: tuple[int, int]) -> InstanceArrays:
    boxes, labels, masks, numbers = zip(*kept, strict=True) if kept else ((), (), (), ())
    return InstanceArrays(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.stack(masks) if kept else np.zeros((0, *size), np.uint8),
        np.array(numbers, np.int64),
    )
