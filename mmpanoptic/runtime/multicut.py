"""COPS behind its network: the solver and the segments of its cut, with NumPy alone.

The same as ``MulticutHead`` with ``score_mode="network"``; see there and
:mod:`mmpanoptic.models.multicut`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmpanoptic.ops.amwc import SolverOptions, solve_grid


@dataclass(frozen=True)
class MulticutRules:
    """Options of ``MulticutHead``.

    Attributes:
        distances (Sequence[int]): Distances of the edges.
        intervals (Sequence[int]): Their sampling intervals.
        isthing (Sequence[bool]): Of each class.
        stride (int): Pixels per cell.
        stuff_area (int): Smallest stuff.
        instance_area (int): Smallest thing.
        min_cells (int): Things with fewer cells form no segment.
        solver (Mapping): Of :class:`~mmpanoptic.ops.amwc.SolverOptions`.
    """

    distances: Sequence[int]
    intervals: Sequence[int]
    isthing: Sequence[bool]
    stride: int
    stuff_area: int
    instance_area: int
    min_cells: int
    solver: Mapping[str, Any] = field(default_factory=dict)


def fuse(
    outputs: Mapping[str, np.ndarray], size: tuple[int, ...], rules: MulticutRules
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the multiway cut of an image and list its segments.

    Args:
        outputs (Mapping): Of the network, by name, with ``image_size``, the size of the network's
            image without padding.
        size (tuple[int, ...]): Height and width of the result.
        rules (MulticutRules): Options.

    Returns:
        tuple[np.ndarray, np.ndarray]: int32 map ``(H, W)``; float64 ``(N, 6)``: label, score, x0,
        y0, x1, y1 of each segment.
    """
    image_size = tuple(int(side) for side in outputs["image_size"])
    nodes = outputs["node_costs"][0]
    count = len(rules.distances)
    edges, logits = (
        [outputs[f"{name}{number}"][0] for number in range(count)]
        for name in ("edge_costs", "logits")
    )
    cut = _solve(nodes, edges, rules)
    index, label, cells = _segments(*cut, rules)
    rows, columns = (
        _nearest(image, new) // rules.stride for image, new in zip(image_size, size, strict=True)
    )
    area = np.bincount(index[rows][:, columns].ravel(), minlength=len(label) + 1)[1:]
    isthing = np.array(rules.isthing)[label]
    limit = np.where(isthing, rules.instance_area, rules.stuff_area)
    kept = (cells * rules.stride**2 >= limit) & (area > 0)
    table = np.concatenate([[0], np.where(kept, kept.cumsum(), 0)])
    index, label, isthing = table[index], label[kept], isthing[kept]
    index_map = index[rows][:, columns].astype(np.int32)
    cells_of_image = index.copy()
    height, width = (-(-side // rules.stride) for side in image_size)
    cells_of_image[height:] = 0
    cells_of_image[:, width:] = 0
    score = class_scores(outputs["semantic"][0], cells_of_image, label, rules.stride)
    score += affinity_scores(cells_of_image, logits, rules, len(label))
    score = np.where(isthing, score, 1.0)
    boxes = measure_boxes(index_map, len(label))
    return index_map, np.column_stack([label, score, boxes]).reshape(-1, 6)


def _solve(
    nodes: np.ndarray, edges: Sequence[np.ndarray], rules: MulticutRules
) -> tuple[np.ndarray, np.ndarray]:
    fits = [n for n, distance in enumerate(rules.distances) if distance <= min(nodes.shape[1:])]
    solution = solve_grid(
        nodes,
        [edges[n] for n in fits],
        [rules.distances[n] for n in fits],
        list(rules.isthing),
        [rules.intervals[n] for n in fits],
        SolverOptions(**rules.solver),
    )
    return solution.labels.astype(np.int64), solution.components.astype(np.int64)


def _segments(
    labels: np.ndarray, components: np.ndarray, rules: MulticutRules
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the segments of a cut, see ``segments_of_cut``: index map from 1, labels, cells."""
    flat = components.ravel()
    size = np.bincount(flat)
    label = np.zeros_like(size)
    label[flat] = labels.ravel()
    thing = np.array(rules.isthing)[label]
    key = label * (len(size) + 1) + np.where(thing, np.arange(1, len(size) + 1), 0)
    kept = (~thing | (size >= rules.min_cells)) & (size > 0)
    unique, segment = np.unique(key[kept], return_inverse=True)
    table = np.zeros_like(size)
    table[kept] = segment + 1
    cells = np.zeros_like(unique)
    np.add.at(cells, segment, size[kept])
    return table[components], unique // (len(size) + 1), cells


def _nearest(source: int, length: int) -> np.ndarray:
    """Tell which of ``source`` entries each of ``length`` positions reads, as PyTorch does."""
    place = np.arange(length, dtype=np.float32) * np.float32(source / length)
    return np.minimum(np.floor(place).astype(np.int64), source - 1)


def measure_boxes(index_map: np.ndarray, count: int) -> np.ndarray:
    """Find the boxes int64 ``(count, 4)``, x0, y0, x1, y1 with exclusive ends, of all segments."""
    boxes = np.zeros((count, 4), np.int64)
    y, x = np.nonzero(index_map)
    number = index_map[y, x] - 1
    boxes[:, :2] = max(index_map.shape)
    for column, values in ((0, x), (1, y)):
        np.minimum.at(boxes[:, column], number, values)
        np.maximum.at(boxes[:, column + 2], number, values + 1)
    return boxes


def _means(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Average values over the segments ``1 .. count``: float64 ``(count,)``."""
    flat = index.ravel()
    total = np.bincount(flat, values.ravel().astype(np.float64), count + 1)
    return (total / np.maximum(np.bincount(flat, minlength=count + 1), 1))[1:]


def class_scores(
    class_logits: np.ndarray, index: np.ndarray, label: np.ndarray, stride: int
) -> np.ndarray:
    """Average the logit of its class over each segment: float64 ``(M,)``."""
    offsets = ((pixel + 0.5) / stride - 0.5 for pixel in range(stride))
    side = sum(max(offset, 0.0) for offset in offsets) / stride
    shares = (side, 1 - 2 * side, side)
    own = np.concatenate([[0], label])[index]
    padded = np.pad(class_logits.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = index.shape
    mean = np.zeros(index.shape, np.float32)
    for y, y_share in enumerate(shares):
        for x, x_share in enumerate(shares):
            window = padded[:, y : y + height, x : x + width]
            mean += np.take_along_axis(window, own[None], 0)[0] * np.float32(y_share * x_share)
    return _means(mean, index, len(label))


def affinity_scores(
    index: np.ndarray, edge_logits: Sequence[np.ndarray], rules: MulticutRules, count: int
) -> np.ndarray:
    """Add up boundary logits of edges with one end in a segment, less those inside: ``(M,)``."""
    cell = np.zeros(index.shape, np.float32)
    parts = zip(edge_logits, rules.distances, rules.intervals, strict=True)
    for logits, distance, interval in parts:
        share = logits.astype(np.float32) / np.float32(logits.size)
        if interval > 1:
            full = np.zeros((2, *index.shape), np.float32)
            full[:, ::interval, ::interval] = share
            share = full * _valid(index.shape, distance, interval)
        before = 0 if distance == 1 else distance // 2
        for plane, axis in zip(share, (0, 1), strict=True):
            number = max(index.shape[axis] - distance, 0)
            start, end = (
                tuple(slice(low, low + number) if n == axis else slice(None) for n in (0, 1))
                for low in (0, index.shape[axis] - number)
            )
            middle = tuple(
                slice(before, before + number) if n == axis else slice(None) for n in (0, 1)
            )
            values = plane[middle]
            cell[end] += values
            cell[start] += np.where(index[start] == index[end], -2 * values, values)
    total = np.bincount(index.ravel(), cell.ravel().astype(np.float64), count + 1)
    return total[1:]


def _valid(size: tuple[int, ...], distance: int, interval: int) -> np.ndarray:
    """Tell which full-size positions hold a sampled edge: bool ``(2, h, w)``."""
    before = 0 if distance == 1 else distance // 2
    first, last = -(-before // interval), -(-(distance - before) // interval)
    valid = np.zeros((2, *size), bool)
    for axis, length in enumerate(size):
        stored = -(-length // interval)
        low, high = first * interval, max(stored - last, 0) * interval
        if axis == 0:
            valid[0, low:high] = True
        else:
            valid[1, :, low:high] = True
    return valid
