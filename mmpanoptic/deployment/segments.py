"""Segments of a map, in the graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .graph import DOUBLE, FLOAT, INT64, Size, Steps, Value

COLUMNS = ("label", "score", "x0", "y0", "x1", "y1")
"""Of ``segments``; row k tells about the segment with the number k + 1."""


def enlarge(
    steps: Steps,
    maps: Value,
    stride: int,
    image: Size,
    result: Size,
    align_corners: tuple[bool, bool] = (False, False),
) -> Value:
    """Enlarge maps by the stride, cut the padding off and resize to the result.

    Args:
        steps (Steps): The graph.
        maps (Value): float32 ``(1, C, h, w)``.
        stride (int): Pixels per cell.
        image (Size): Without padding.
        result (Size): Of the result.
        align_corners (tuple[bool, bool]): Of both steps.

    Returns:
        Value: ``(1, C, H, W)``.
    """
    factor = steps.constant(stride)
    full = Size(*(steps.op.Mul(steps.dim(maps, axis), factor) for axis in (2, 3)))
    maps = resize(steps, maps, full, align_corners[0])
    return resize(steps, steps.crop(maps, image), result, align_corners[1])


def resize(steps: Steps, maps: Value, size: Size, align_corners: bool = False) -> Value:
    """Resize maps ``(1, C, h, w)`` bilinearly."""
    # A single pixel lies at the first cell with aligned corners, as in PyTorch.
    mode = "align_corners" if align_corners else "half_pixel"
    sizes = steps.vector(1, steps.dim(maps, 1), *size.both())
    return steps.op.Resize(
        maps, None, None, sizes, mode="linear", coordinate_transformation_mode=mode
    )


SMALL_MAP = 128
"""Height and width of a map up to whose sum PyTorch weighs four cells at once."""


def enlarge_exactly(steps: Steps, heatmap: Value, stride: int, image: Size, result: Size) -> Value:
    """Enlarge a map ``(1, 1, h, w)`` as :func:`enlarge` does, with PyTorch's rounding: ``(H, W)``.

    Beyond the outermost cells a map is flat, and rounding decides which of its equal values is the
    largest. ONNX leaves rounding open, so this restates PyTorch's two kernels, with the fused
    multiplications and additions of its builds for processors that have them.
    """
    factor = steps.constant(stride)
    cells = steps.squeeze(heatmap, 0, 1)
    full = Size(*(steps.op.Mul(steps.dim(cells, axis), factor) for axis in (0, 1)))
    cells = steps.crop(_mix(steps, cells, full), image, (0, 1))
    return _mix(steps, cells, result)


class _Taps(NamedTuple):
    """Of each place along an axis the two cells that it lies between, and their weights."""

    low: Value
    high: Value
    low_weight: Value
    high_weight: Value


def _mix(steps: Steps, cells: Value, size: Size) -> Value:
    """Resize ``(h, w)``: columns, then rows, or all four cells at once where the map is small."""
    op = steps.op
    y, x = (_taps(steps, steps.dim(cells, n), length) for n, length in enumerate(size.both()))
    product = op.Mul(op.Gather(cells, x.high, axis=1), x.high_weight)
    across = _fused(steps, op.Gather(cells, x.low, axis=1), x.low_weight, product)
    rows = [steps.unsqueeze(weight, 1) for weight in (y.low_weight, y.high_weight)]
    product = op.Mul(op.Gather(across, y.high, axis=0), rows[1])
    mixed = _fused(steps, op.Gather(across, y.low, axis=0), rows[0], product)

    def at_once(inner: Steps, number: Value, value: Value) -> list[Value]:
        total = None
        for row, row_weight in ((y.low, rows[0]), (y.high, rows[1])):
            line = inner.op.Gather(cells, row, axis=0)
            parts = [
                (inner.op.Gather(line, column, axis=1), inner.op.Mul(row_weight, weight))
                for column, weight in ((x.low, x.low_weight), (x.high, x.high_weight))
            ]
            if total is None:  # the second product is the one that is rounded
                total = inner.op.Mul(*parts.pop())
            for part in parts:
                total = _fused(inner, *part, total)
        return [total]

    small = op.LessOrEqual(op.Add(*size.both()), steps.constant(SMALL_MAP))
    return steps.loop(steps.cast(small, INT64), [mixed], at_once)[0]


def _taps(steps: Steps, source: Value, length: Value) -> _Taps:
    op = steps.op
    half, zero = (steps.constant(number, np.float64) for number in (0.5, 0))
    scale = op.Div(steps.cast(source, FLOAT), steps.cast(length, FLOAT))
    middle = op.Mul(op.Add(steps.span(length, DOUBLE), half), steps.cast(scale, DOUBLE))
    place = steps.cast(op.Max(op.Sub(middle, half), zero), FLOAT)
    low = op.Floor(place)
    first = steps.cast(low, INT64)
    second = op.Min(op.Add(first, steps.constant(1)), op.Sub(source, steps.constant(1)))
    share = op.Sub(place, low)
    return _Taps(first, second, op.Sub(steps.constant(1, np.float32), share), share)


def _fused(steps: Steps, value: Value, weight: Value, other: Value) -> Value:
    """Multiply and add with one rounding: the product is exact in double precision."""
    op = steps.op
    product = op.Mul(steps.cast(value, DOUBLE), steps.cast(weight, DOUBLE))
    return steps.cast(op.Add(product, steps.cast(other, DOUBLE)), FLOAT)


def number_by_key(steps: Steps, key: Value, present: Value) -> Value:
    """Number the candidates that are present from 1 by ascending key.

    Args:
        steps (Steps): The graph.
        key (Value): int64 ``(M,)``.
        present (Value): bool ``(M,)``.

    Returns:
        Value: int64 ``(M,)``, 0 for those that are not.
    """
    op = steps.op
    last = steps.constant(np.iinfo(np.int32).max)
    sorted_first = op.Where(present, key, last)
    length = steps.vector(steps.dim(key, 0))
    _, order = op.TopK(sorted_first, length, axis=0, largest=0, _outputs=2)
    number = op.Add(steps.inverse(order), steps.constant(1))
    return op.Mul(number, steps.cast(present, INT64))


def measure(steps: Steps, index_map: Value, count: Value) -> tuple[Value, Value]:
    """Find the boxes and centroids of the segments ``1 .. count``.

    Args:
        steps (Steps): The graph.
        index_map (Value): int64 ``(H, W)``, 0 is void.
        count (Value): int64 scalar.

    Returns:
        tuple[Value, Value]: int64 boxes ``(count, 4)``, x0, y0, x1, y1 with exclusive ends; int64
        centroids ``(count, 2)``, (y, x) truncated.
    """
    op, one = steps.op, steps.constant(1)
    height, width = steps.dim(index_map, 0), steps.dim(index_map, 1)
    flat = steps.reshape(index_map, -1)
    shape = steps.vector(height, width)
    y = steps.reshape(op.Expand(steps.unsqueeze(steps.span(height), 1), shape), -1)
    x = steps.reshape(op.Expand(steps.unsqueeze(steps.span(width), 0), shape), -1)
    rows = steps.vector(op.Add(count, one))

    def extreme(values: Value, start: int, how: str) -> Value:
        begin = steps.full(rows, start, np.int64)
        return steps.cut(op.ScatterElements(begin, flat, values, axis=0, reduction=how), 0, 1)

    far = np.iinfo(np.int32).max
    lows = [extreme(values, far, "min") for values in (x, y)]
    highs = [op.Add(extreme(values, -1, "max"), one) for values in (x, y)]
    boxes = op.Concat(*(steps.unsqueeze(part, 1) for part in (*lows, *highs)), axis=1)
    area = steps.cut(steps.count_values(flat, op.Add(count, one)), 0, 1)
    area = op.Max(area, one)
    sums = [
        steps.cut(steps.sum_values(flat, values, op.Add(count, one), np.int64), 0, 1)
        for values in (y, x)
    ]
    centroid = op.Concat(*(steps.unsqueeze(op.Div(part, area), 1) for part in sums), axis=1)
    return boxes, centroid


def table(steps: Steps, number: Value, label: Value, score: Value, boxes: Value) -> Value:
    """Collect the segments in the order of their numbers.

    Args:
        steps (Steps): The graph.
        number (Value): int64 ``(M,)``, number of each candidate's segment, 0 if there is none.
        label (Value): int64 ``(M,)``.
        score (Value): float ``(M,)``.
        boxes (Value): int64 ``(N, 4)`` of the segments.

    Returns:
        Value: float32 ``(N, 6)``, see :data:`COLUMNS`.
    """
    op = steps.op
    kept = steps.where_true(op.Greater(number, steps.constant(0)))
    place = op.Sub(op.Gather(number, kept), steps.constant(1))
    order = steps.inverse(place)

    def in_order(values: Value) -> Value:
        chosen = op.Gather(op.Gather(values, kept), order)
        return steps.unsqueeze(steps.cast(chosen, FLOAT), 1)

    return op.Concat(in_order(label), in_order(score), steps.cast(boxes, FLOAT), axis=1)


def fill_and_number(
    steps: Steps,
    owner: Value,
    visible: Value,
    order: Value,
    channels: Value,
    is_stuff: np.ndarray,
    stuff_area: int,
) -> tuple[Value, Value]:
    """Fill free pixels with stuff and number the segments, see ``number_segments``.

    Args:
        steps (Steps): The graph.
        owner (Value): int64 ``(H, W)``, instance from 1 that has each pixel, 0 for none.
        visible (Value): bool ``(K,)``, which instances have pixels.
        order (Value): int64 ``(K,)``, in which they were painted.
        channels (Value): int64 ``(H, W)``, channel of each pixel; further ones count as the last.
        is_stuff (np.ndarray): bool ``(C,)``, channels that become segments.
        stuff_area (int): Stuff with fewer free pixels becomes void.

    Returns:
        tuple[Value, Value]: int64 map ``(H, W)``; int64 ``(K + C,)``, the number of the segment of
        each instance and channel, 0 if there is none.
    """
    op = steps.op
    count, length = steps.dim(visible, 0), len(is_stuff)
    channels = op.Min(channels, steps.constant(length - 1))
    free = op.Equal(owner, steps.constant(0))
    code = op.Where(free, op.Add(channels, count), op.Sub(owner, steps.constant(1)))
    area = steps.count_values(steps.reshape(code, -1), op.Add(count, steps.constant(length)))
    enough = op.GreaterOrEqual(
        op.Slice(area, steps.vector(count), steps.constant([2**62])),
        steps.constant(max(stuff_area, 1)),
    )
    stuff = op.And(enough, steps.constant(is_stuff, bool))
    rank = op.Concat(
        steps.inverse(order), op.Add(steps.span(steps.constant(length)), count), axis=0
    )
    number = number_by_key(steps, rank, op.Concat(visible, stuff, axis=0))
    return op.Gather(number, code), number
