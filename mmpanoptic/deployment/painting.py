"""Instances painted into a map in the graph; see the heads of ``ordered_fusion``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .detection import Instances, select_by_score
from .errors import ExportError
from .graph import BOOL, DOUBLE, FLOAT, INT64, Size, Steps, Value
from .preparation import Prepared
from .segments import enlarge, fill_and_number, measure, table


class Windows(NamedTuple):
    """Where the masks of boxes are pasted, and how.

    Attributes:
        low (tuple[Value, Value]): int64 ``(K,)``, first row and column.
        high (tuple[Value, Value]): int64 ``(K,)``, the row and column behind the last.
        scale (tuple[Value, Value]): Cells per pixel.
        shift (tuple[Value, Value]): Coordinates that cell 0 starts at.
        mode (str): See ``paste_masks``.
    """

    low: tuple[Value, Value]
    high: tuple[Value, Value]
    scale: tuple[Value, Value]
    shift: tuple[Value, Value]
    mode: str


def place_windows(steps: Steps, boxes: Value, cells: int, size: Size, mode: str) -> Windows:
    """Place the windows of boxes ``(K, 4)`` whose masks have ``cells`` cells on a side."""
    x0, y0, x1, y1 = steps.columns(boxes)
    place = _place_legacy if mode == "legacy" else _place_sampled
    found = [
        place(steps, low, high, cells, limit)
        for low, high, limit in ((y0, y1, size.height), (x0, x1, size.width))
    ]
    low, high, scale, shift = zip(*found, strict=True)
    return Windows(low, high, scale, shift, mode)


def _clamp(steps: Steps, x: Value, limit: Value) -> Value:
    bounds = steps.constant(0, np.float32), steps.cast(limit, FLOAT)
    return steps.op.Min(steps.op.Max(x, bounds[0]), bounds[1])


def _place_sampled(
    steps: Steps, low: Value, high: Value, cells: int, limit: Value
) -> tuple[Value, Value, Value, Value]:
    op = steps.op
    length = op.Sub(high, low)
    margin = op.Div(
        op.Div(op.Abs(length), steps.constant(cells, np.float32)), steps.constant(2, np.float32)
    )
    start = _clamp(steps, op.Floor(op.Sub(op.Min(low, high), margin)), limit)
    end = _clamp(steps, op.Ceil(op.Add(op.Max(low, high), margin)), limit)
    empty = op.Equal(length, steps.constant(0, np.float32))
    end = op.Where(empty, start, end)
    length = op.Where(empty, steps.constant(1, np.float32), length)
    scale = op.Div(steps.constant(cells, np.float32), length)
    return steps.cast(start, INT64), steps.cast(end, INT64), scale, low


def _place_legacy(
    steps: Steps, low: Value, high: Value, cells: int, limit: Value
) -> tuple[Value, Value, Value, Value]:
    op = steps.op
    padded, one = cells + 2, steps.constant(1, np.float32)

    def truncated(x: Value) -> Value:
        return steps.cast(steps.cast(x, INT64), FLOAT)

    half = op.Mul(
        op.Mul(op.Sub(high, low), steps.constant(0.5, np.float32)),
        steps.constant(padded / cells, np.float32),
    )
    middle = op.Mul(op.Add(high, low), steps.constant(0.5, np.float32))
    first, last = truncated(op.Sub(middle, half)), truncated(op.Add(middle, half))
    length = op.Max(op.Add(op.Sub(last, first), one), one)
    start = _clamp(steps, first, limit)
    end = op.Min(
        _clamp(steps, op.Add(first, length), limit), _clamp(steps, op.Add(last, one), limit)
    )
    end = op.Max(end, start)
    scale = op.Div(steps.constant(padded, np.float32), length)
    return steps.cast(start, INT64), steps.cast(end, INT64), scale, first


def paste(steps: Steps, windows: Windows, k: Value, values: Value) -> Value:
    """Enlarge the values ``(m, m)`` of one box to its window: float32 ``(h, w)``."""
    op = steps.op
    if windows.mode == "legacy":
        values = op.Pad(values, steps.constant([1, 1, 1, 1]))
    cells = steps.dim(values, 0)
    weights = []
    for axis in (0, 1):
        low, high, scale, shift = (
            op.Gather(part[axis], k)
            for part in (windows.low, windows.high, windows.scale, windows.shift)
        )
        pixel = steps.cast(op.Range(low, high, steps.constant(1)), FLOAT)
        half = steps.constant(0.5, np.float32)
        place = op.Sub(op.Mul(op.Sub(op.Add(pixel, half), shift), scale), half)
        if windows.mode == "legacy":
            place = _clamp(steps, place, op.Sub(cells, steps.constant(1)))
        distance = op.Abs(op.Sub(steps.unsqueeze(place, 1), steps.span(cells, FLOAT)))
        one, zero = steps.constant(1, np.float32), steps.constant(0, np.float32)
        weights.append(op.Max(op.Sub(one, distance), zero))
    return op.MatMul(op.MatMul(weights[0], values), op.Transpose(weights[1], perm=[1, 0]))


def window_of(steps: Steps, windows: Windows, k: Value) -> tuple[Value, Value]:
    """Give the corners of a window: int64 ``(2,)`` each, (y, x)."""
    low, high = (
        steps.vector(*(steps.op.Gather(part, k) for part in ends))
        for ends in (windows.low, windows.high)
    )
    return low, high


def cut_window(steps: Steps, full: Value, low: Value, high: Value) -> Value:
    """Cut a window out of a map ``(H, W)``."""
    return steps.op.Slice(full, low, high, steps.constant([0, 1]))


def spread(steps: Steps, part: Value, low: Value, high: Value, size: Size, fill: Value) -> Value:
    """Put a window into a map of ``size`` that is ``fill`` elsewhere."""
    behind = steps.op.Sub(steps.vector(*size.both()), high)
    return steps.op.Pad(part, steps.op.Concat(low, behind, axis=0), fill)


# ---- rules ----------------------------------------------------------------------------------

Rule = Callable[..., tuple[Value, Value]]
"""Gets the steps, the instance, free pixels, met pixels ``(K,)``, its area and the visible pixels
``(K,)``, all float64; tells whether it is accepted, and who gives way ``(K,)``."""


def first_come(overlap_thr: float) -> Rule:
    """Make the rule of ``FirstComeRule``."""

    def rule(
        steps: Steps, k: Value, free: Value, met: Value, area: Value, visible: Value
    ) -> tuple[Value, Value]:
        op = steps.op
        covered = op.Div(op.Sub(area, free), area)
        nobody = op.Less(met, steps.constant(0, np.float64))
        return op.LessOrEqual(covered, steps.constant(overlap_thr, np.float64)), nobody

    return rule


def nearest(values: Value, labels: Value, overlap_thr: float, large_overlap_thr: float) -> Rule:
    """Make the rule of ``NearestRule``."""

    def rule(
        steps: Steps, k: Value, free: Value, met: Value, area: Value, visible: Value
    ) -> tuple[Value, Value]:
        op = steps.op
        limit, large = (steps.constant(x, np.float64) for x in (overlap_thr, large_overlap_thr))
        behind = op.Greater(values, op.Gather(values, k))
        left = op.Add(free, _sum(steps, met, behind))
        accepted = op.Greater(op.Div(left, area), limit)
        same = _sum(steps, met, op.Equal(labels, op.Gather(labels, k)))
        accepted = op.And(accepted, op.LessOrEqual(op.Div(same, area), limit))
        double = op.And(
            op.Greater(met, steps.constant(0, np.float64)),
            op.And(
                op.GreaterOrEqual(op.Div(met, area), large),
                op.GreaterOrEqual(op.Div(met, visible), large),
            ),
        )
        return op.And(accepted, op.Equal(steps.count(double), steps.constant(0))), behind

    return rule


def occluder(occludes: Value, overlap_thr: float, pair_thr: float) -> Rule:
    """Make the rule of ``OccluderRule``."""

    def rule(
        steps: Steps, k: Value, free: Value, met: Value, area: Value, visible: Value
    ) -> tuple[Value, Value]:
        op = steps.op
        limit, pair = (steps.constant(x, np.float64) for x in (overlap_thr, pair_thr))
        zero = steps.constant(0, np.float64)
        meets = op.Greater(met, zero)
        large = op.Or(
            op.GreaterOrEqual(op.Div(met, area), pair),
            op.GreaterOrEqual(op.Div(met, visible), pair),
        )
        below = op.And(op.And(large, meets), op.Gather(occludes, k))
        left = op.Add(free, _sum(steps, met, below))
        alone = op.And(op.Equal(steps.count(meets), steps.constant(0)), op.Greater(free, zero))
        return op.Or(op.Greater(op.Div(left, area), limit), alone), below

    return rule


def _sum(steps: Steps, values: Value, chosen: Value) -> Value:
    product = steps.op.Mul(values, steps.cast(chosen, DOUBLE))
    return steps.op.ReduceSum(product, keepdims=0)


# ---- the fusion -----------------------------------------------------------------------------


def paint(
    steps: Steps,
    count: Value,
    order: Value,
    mask_of: Callable[[Steps, Value], tuple[Value, Value, Value]],
    size: Size,
    rule: Rule,
) -> tuple[Value, Value, Value]:
    """Paint instances one after the other; see ``paint_in_order``.

    Args:
        steps (Steps): The graph.
        count (Value): K, int64 scalar.
        order (Value): int64 ``(K,)``.
        mask_of (Callable): Gives the mask of an instance in its window, and the corners.
        size (Size): Of the map.
        rule (Callable): See :data:`Rule`.

    Returns:
        tuple: int64 owners ``(H, W)``, instances from 1; float64 visible pixels and areas ``(K,)``.
    """
    numbers = steps.vector(count)
    start = [
        steps.full(steps.vector(*size.both()), 0, np.int64),
        steps.full(numbers, 0, np.float64),
        steps.full(numbers, 0, np.float64),
    ]

    def body(inner: Steps, turn: Value, owner: Value, visible: Value, areas: Value) -> list[Value]:
        op, one = inner.op, inner.constant(1)
        k = op.Gather(order, turn)
        mask, low, high = mask_of(inner, k)
        window = cut_window(inner, owner, low, high)
        rows = op.Add(count, one)
        flat = inner.reshape(window, -1)
        met = inner.sum_values(flat, inner.reshape(inner.cast(mask, DOUBLE), -1), rows, np.float64)
        area = op.ReduceSum(met, keepdims=0)
        free = op.Gather(met, inner.constant(0))
        met = inner.cut(met, 0, 1)
        accepted, gives = rule(inner, k, free, met, area, visible)
        gives = op.And(gives, accepted)
        lost = op.Mul(met, inner.cast(gives, DOUBLE))
        own = op.Add(op.Mul(free, inner.cast(accepted, DOUBLE)), op.ReduceSum(lost, keepdims=0))
        here = op.Equal(inner.span(count), k)
        visible = op.Where(here, own, op.Sub(visible, lost))
        takes = op.Concat(inner.reshape(accepted, 1), gives, axis=0)
        taken = op.And(mask, op.Gather(takes, window))
        full = spread(inner, inner.cast(taken, INT64), low, high, size, inner.constant(0))
        owner = op.Where(inner.cast(full, BOOL), op.Add(k, one), owner)
        return [owner, visible, op.Where(here, area, areas)]

    owner, visible, areas = steps.loop(steps.dim(order, 0), start, body)
    return owner, visible, areas


def fuse(
    steps: Steps,
    head: Any,
    prepared: Prepared,
    semantic: Value,
    found: Instances,
    pairs: Callable[..., list[Value]] | None = None,
) -> tuple[Value, Value]:
    """Form the panoptic map of a ``PaintFusionHead``.

    Args:
        steps (Steps): The graph.
        head (PaintFusionHead): Its options.
        prepared (Prepared): Sizes.
        semantic (Value): Logits ``(1, C, h, w)``.
        found (Instances): All instances.
        pairs (Callable | None): Embeds the occlusion head's :class:`OcclusionPairs`.

    Returns:
        tuple[Value, Value]: int64 map ``(H, W)`` and ``segments``.
    """
    op, size = steps.op, prepared.result
    channels = semantic_channels(steps, head, prepared, semantic)
    kept = select_by_score(steps, found, head.score_thr)
    count = steps.dim(kept.scores, 0)
    windows = place_windows(steps, kept.boxes, kept.cells, size, head.mask_mode)
    values = op.Sigmoid(kept.logits)

    def mask_of(inner: Steps, k: Value) -> tuple[Value, Value, Value]:
        pasted = paste(inner, windows, k, inner.op.Gather(values, k))
        half = inner.constant(0.5, np.float32)
        compare = inner.op.Greater if head.mask_mode == "legacy" else inner.op.GreaterOrEqual
        return (compare(pasted, half), *window_of(inner, windows, k))

    order = _order(steps, head, kept, mask_of)
    rule = _rule(steps, head, kept, windows, pairs)
    owner, visible, areas = paint(steps, count, order, mask_of, size, rule)
    if head.min_visible > 0:
        least = op.Mul(areas, steps.constant(head.min_visible, np.float64))
        stays = op.GreaterOrEqual(visible, least)
        table_ = op.Concat(steps.constant([0]), steps.cast(stays, INT64), axis=0)
        owner = op.Mul(owner, op.Gather(table_, owner))
        visible = op.Mul(visible, steps.cast(stays, DOUBLE))
    return _describe(steps, head, kept, owner, visible, order, channels)


def _describe(
    steps: Steps,
    head: Any,
    kept: Instances,
    owner: Value,
    visible: Value,
    order: Value,
    channels: Value,
) -> tuple[Value, Value]:
    op, first, length = steps.op, head.first_stuff, len(head.stuff_labels)
    is_stuff = np.zeros(first + length + 1, bool)
    is_stuff[first : first + length] = True
    present = op.Greater(visible, steps.constant(0, np.float64))
    index_map, number = fill_and_number(
        steps, owner, present, order, channels, is_stuff, head.stuff_area
    )
    count = steps.dim(kept.scores, 0)
    begin = op.Add(count, steps.constant(first))
    stuff = steps.cut(number, 0, begin, op.Add(begin, steps.constant(length)))
    number = op.Concat(steps.cut(number, 0, 0, count), stuff, axis=0)
    things = op.Gather(steps.constant(head.thing_labels), kept.labels)
    label = op.Concat(things, steps.constant(np.array(head.stuff_labels, np.int64)), axis=0)
    score = op.Concat(kept.scores, steps.constant(np.ones(length), np.float32), axis=0)
    total = steps.count(op.Greater(number, steps.constant(0)))
    boxes, _ = measure(steps, index_map, total)
    return index_map, table(steps, number, label, score, boxes)


def semantic_channels(steps: Steps, head: Any, prepared: Prepared, semantic: Value) -> Value:
    """Find the channel int64 ``(H, W)`` of each pixel of the result."""
    op = steps.op
    if type(head).__name__ == "LabelResizeFusionHead":
        image = prepared.image
        full = enlarge(steps, semantic, head.stride, image, image, (True, False))
        classes = steps.squeeze(op.ArgMax(full, axis=1, keepdims=0), 0)
        for axis, (old, new) in enumerate(zip(image.both(), prepared.result.both(), strict=True)):
            classes = op.Gather(classes, nearest_cells(steps, old, new), axis=axis)
        return classes
    squash = head.pad_handling == "squash"
    image = prepared.padded if squash else prepared.image
    corners = (head.align_corners, head.align_corners and squash)
    logits = enlarge(steps, semantic, head.stride, image, prepared.result, corners)
    return steps.squeeze(op.ArgMax(logits, axis=1, keepdims=0), 0)


def nearest_cells(steps: Steps, length: Value, new_length: Value) -> Value:
    """Tell which entry Pillow's nearest-neighbour resizing takes at each new position."""
    op = steps.op
    step = op.Div(steps.cast(length, DOUBLE), steps.cast(new_length, DOUBLE))
    half = op.Div(step, steps.constant(2, np.float64))
    first = op.Equal(steps.span(new_length), steps.constant(0))
    places = op.CumSum(op.Where(first, half, step), steps.constant(0))
    return op.Min(steps.cast(places, INT64), op.Sub(length, steps.constant(1)))


def _order(steps: Steps, head: Any, kept: Instances, mask_of: Callable[..., Any]) -> Value:
    """Choose the order of painting: by descending score, or see ``HeuristicFusionHead``."""
    op = steps.op
    numbers = steps.span(steps.dim(kept.scores, 0))
    if getattr(head, "order", "score") == "score":
        return numbers

    def area(inner: Steps, k: Value) -> list[Value]:
        return [inner.count(mask_of(inner, k)[0])]

    count = steps.dim(kept.scores, 0)
    (areas,) = steps.loop(count, [], area, stacked=1)
    confident = op.Greater(kept.scores, steps.constant(head.area_order_thr, np.float32))
    key = op.Where(confident, areas, steps.constant(np.iinfo(np.int32).max))
    key = op.Add(op.Mul(key, op.Add(count, steps.constant(1))), numbers)
    return op.TopK(key, steps.vector(count), axis=0, largest=0, _outputs=2)[1]


def _rule(steps: Steps, head: Any, kept: Instances, windows: Windows, pairs: Any) -> Rule:
    kind = type(head).__name__
    if kind in ("HeuristicFusionHead", "LabelResizeFusionHead"):
        return first_come(head.overlap_thr)
    if kind == "RelationFusionHead":
        values = kept.extra["relation"]
        return nearest(values, kept.labels, head.overlap_thr, head.large_overlap_thr)
    if kind == "OcclusionFusionHead":
        occludes = _occlusion(steps, head, kept, windows, pairs)
        return occluder(occludes, head.overlap_thr, head.pair_thr)
    raise ExportError(f"the rule of {kind} has no counterpart in the graph")


def _occlusion(steps: Steps, head: Any, kept: Instances, windows: Windows, pairs: Any) -> Value:
    """Ask about all pairs whose windows meet: bool ``(K, K)``, the first lies on the second."""
    op = steps.op
    count = steps.dim(kept.scores, 0)
    square = steps.vector(count, count)
    meets = op.Greater(steps.unsqueeze(steps.span(count), 1), steps.unsqueeze(steps.span(count), 0))
    for axis in (0, 1):
        low = op.Max(*(steps.unsqueeze(windows.low[axis], way) for way in (0, 1)))
        high = op.Min(*(steps.unsqueeze(windows.high[axis], way) for way in (0, 1)))
        meets = op.And(meets, op.Less(low, high))
    places = op.Transpose(op.NonZero(meets), perm=[1, 0])
    first, second = (op.Gather(places, steps.constant(n), axis=1) for n in (0, 1))
    # One more pair, whose answer is dropped: the head never sees an empty batch.
    halves = []
    for name, index in (("first", first), ("second", second)):
        values = kept.extra[name]
        shape = op.Concat(steps.constant([1]), op.Shape(values, start=1), axis=0)
        nothing = steps.full(shape, 0, np.float32)
        halves.append(op.Concat(op.Gather(values, index), nothing, axis=0))
    probability = steps.cut(pairs(*halves)[0], 0, 0, -1)
    lies_on = op.Greater(probability, steps.constant(head.occlusion_thr, np.float32))
    answers = op.ScatterND(steps.full(square, 0, np.int64), places, steps.cast(lies_on, INT64))
    return steps.cast(answers, BOOL)
