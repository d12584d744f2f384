"""Panoptic-DeepLab's grouping in the graph; see ``CenterGroupingHead``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .graph import DOUBLE, FLOAT, Size, Steps, Value
from .preparation import Prepared
from .segments import enlarge, enlarge_exactly, measure, number_by_key, table


class _Grouped(NamedTuple):
    """What is known of the pixels: thing pixels ``(P,)`` are those that have a centre or may."""

    logits: Value
    """``(1, C, H, W)``."""
    classes: Value
    """int64 ``(H, W)``."""
    heatmap: Value
    """``(H, W)``."""
    centers: Value
    """int64 ``(K, 2)``, (y, x)."""
    pixels: Value
    """int64 ``(P,)``, positions of the thing pixels."""
    owner: Value
    """int64 ``(P,)``, centre from 1 of each of them, 0 for none."""


def group(
    steps: Steps, head: Any, prepared: Prepared, semantic: Value, center: Value, offset: Value
) -> tuple[Value, Value]:
    """Form the panoptic map.

    Args:
        steps (Steps): The graph.
        head (CenterGroupingHead): Its options.
        prepared (Prepared): Sizes.
        semantic (Value): Logits ``(1, C, h, w)``.
        center (Value): Heatmap ``(1, 1, h, w)``.
        offset (Value): ``(1, 2, h, w)``, in cells.

    Returns:
        tuple[Value, Value]: int64 map ``(H, W)`` and ``segments``.
    """
    op = steps.op
    sizes = (head.stride, prepared.image, prepared.result)
    logits = enlarge(steps, semantic, *sizes)
    classes = steps.squeeze(op.ArgMax(logits, axis=1, keepdims=0), 0)
    heatmap = enlarge_exactly(steps, center, *sizes)
    centers = find_centers(steps, head, heatmap)
    isthing = steps.constant(head.isthing.cpu().numpy(), bool)
    pixels = steps.where_true(op.Gather(isthing, steps.reshape(classes, -1)))
    shift = enlarge(steps, op.Mul(offset, steps.constant(head.stride, np.float32)), *sizes)
    if head.rescale_offsets:
        shift = op.Mul(shift, growth(steps, prepared.image, prepared.result))
    owner = assign(steps, centers, steps.squeeze(shift, 0), pixels)
    return _merge(steps, head, _Grouped(logits, classes, heatmap, centers, pixels, owner))


def growth(steps: Steps, image: Size, result: Size) -> Value:
    """Tell how much larger the result is than the network's image: ``(1, 2, 1, 1)``, (y, x)."""
    ratio = steps.op.Div(
        *(steps.cast(steps.vector(*size.both()), DOUBLE) for size in (result, image))
    )
    return steps.reshape(steps.cast(ratio, FLOAT), 1, 2, 1, 1)


def find_centers(steps: Steps, head: Any, heatmap: Value) -> Value:
    """Find the peaks int64 ``(K, 2)`` of a heatmap ``(H, W)``; see ``find_centers``."""
    op, half = steps.op, head.nms_kernel // 2
    nothing = steps.constant(-1, np.float32)
    above = op.Greater(heatmap, steps.constant(head.threshold, np.float32))
    scores = op.Where(above, heatmap, nothing)
    largest = op.MaxPool(
        steps.unsqueeze(scores, 0, 1), kernel_shape=[head.nms_kernel] * 2, pads=[half] * 4
    )
    peak = op.And(
        op.Equal(scores, steps.squeeze(largest, 0, 1)),
        op.Greater(scores, steps.constant(0, np.float32)),
    )
    places = op.Transpose(op.NonZero(peak), perm=[1, 0])
    if head.top_k is None:
        return places
    values = op.GatherND(scores, places)
    count, limit = steps.dim(values, 0), steps.constant(head.top_k)
    if head.stable_top_k:
        _, order = steps.descending(values)
        chosen = steps.first(order, head.top_k)
        chosen, _ = op.TopK(
            chosen, steps.vector(steps.dim(chosen, 0)), axis=0, largest=0, _outputs=2
        )
        return op.Gather(places, chosen)
    # One more, so that there is a last one where nothing was found.
    padded = op.Concat(values, steps.reshape(nothing, 1), axis=0)
    best, _ = op.TopK(
        padded, steps.vector(op.Min(op.Add(count, steps.constant(1)), limit)), axis=0, _outputs=2
    )
    last = steps.cut(best, 0, -1)
    keep = op.Or(op.Less(count, limit), op.Greater(values, last))
    return op.Gather(places, steps.where_true(keep))


def assign(steps: Steps, centers: Value, offset: Value, pixels: Value) -> Value:
    """Send pixels to the centre nearest to where their offset points; see ``assign_to_centers``.

    One centre after the other, so that memory does not depend on their number.

    Returns:
        Value: int64 ``(P,)``, centre from 1; 0 where there is none.
    """
    op = steps.op
    width = steps.dim(offset, 2)
    row = op.Div(pixels, width)
    column = op.Sub(pixels, op.Mul(row, width))
    flat = steps.reshape(offset, 2, -1)
    target = [
        op.Add(
            steps.cast(place, FLOAT),
            op.Gather(op.Gather(flat, steps.constant(axis), axis=0), pixels),
        )
        for axis, place in enumerate((row, column))
    ]
    centers = steps.cast(centers, FLOAT)
    shape = op.Shape(pixels)
    nowhere = steps.full(shape, 0, np.int64)
    far = steps.full(shape, np.inf, np.float32)

    def nearer(inner: Steps, number: Value, best: Value, owner: Value) -> list[Value]:
        center = inner.op.Gather(centers, number)
        total = None
        for axis, place in enumerate(target):
            way = inner.op.Sub(inner.op.Gather(center, inner.constant(axis)), place)
            square = inner.op.Mul(way, way)
            total = square if total is None else inner.op.Add(total, square)
        # The root is part of the definition: it makes some different squares equal.
        distance = inner.op.Sqrt(total)
        closer = inner.op.Less(distance, best)
        own = inner.op.Add(number, inner.constant(1))
        return [inner.op.Where(closer, distance, best), inner.op.Where(closer, own, owner)]

    return steps.loop(steps.dim(centers, 0), [far, nowhere], nearer)[1]


def _merge(steps: Steps, head: Any, grouped: _Grouped) -> tuple[Value, Value]:
    """Let each group vote for its class, drop small stuff, number and score the segments.

    The candidates are the classes as stuff, one that never counts (pixels without a centre), and
    the instances.
    """
    op, num_classes = steps.op, head.num_classes
    flat = steps.reshape(grouped.classes, -1)
    instance = op.ScatterElements(
        steps.full(op.Shape(flat), 0, np.int64), grouped.pixels, grouped.owner, axis=0
    )
    rows = op.Add(steps.dim(grouped.centers, 0), steps.constant(1))
    ballots = op.Add(flat, op.Mul(instance, steps.constant(num_classes)))
    counted = steps.count_values(ballots, op.Mul(rows, steps.constant(num_classes)))
    votes = steps.reshape(counted, -1, num_classes)
    stuff = op.Gather(votes, steps.constant(0))
    is_stuff = steps.constant(~head.isthing.cpu().numpy(), bool)
    least = steps.constant(max(head.stuff_area, 1))
    kept = op.And(is_stuff, op.GreaterOrEqual(stuff, least))
    voted = op.Greater(steps.total(votes, 1), steps.constant(0))
    voted = op.And(voted, op.Greater(steps.span(rows), steps.constant(0)))
    label = op.Concat(
        steps.span(steps.constant(num_classes)), op.ArgMax(votes, axis=1, keepdims=0), axis=0
    )
    candidates = steps.dim(label, 0)
    key = op.Add(op.Mul(label, candidates), steps.span(candidates))
    number = number_by_key(steps, key, op.Concat(kept, voted, axis=0))
    row = op.Where(
        op.Greater(instance, steps.constant(0)),
        op.Add(instance, steps.constant(num_classes)),
        flat,
    )
    index_map = op.Reshape(op.Gather(number, row), op.Shape(grouped.classes))
    boxes, centroid = measure(steps, index_map, candidates)
    score = _score(steps, head, grouped, label, number, centroid)
    found = steps.count(op.Greater(number, steps.constant(0)))
    return index_map, table(steps, number, label, score, steps.cut(boxes, 0, 0, found))


def _score(
    steps: Steps, head: Any, grouped: _Grouped, label: Value, number: Value, centroid: Value
) -> Value:
    """Score the candidates: float64 ``(M,)``; stuff gets 1."""
    op = steps.op
    of_instance = steps.cut(label, 0, head.num_classes)
    rows = steps.dim(of_instance, 0)
    score = steps.full(steps.vector(rows), 1, np.float64)
    if head.score_mode != "center":
        score = _class_probability(steps, grouped, of_instance, rows)
    if head.score_mode != "semantic":
        if head.center_score == "peak":
            place = op.Concat(steps.constant([[0, 0]]), grouped.centers, axis=0)
        else:
            first = steps.cut(op.Sub(number, steps.constant(1)), 0, head.num_classes)
            place = op.Gather(centroid, op.Max(first, steps.constant(0)))
        score = op.Mul(score, steps.cast(op.GatherND(grouped.heatmap, place), DOUBLE))
    return op.Concat(steps.constant(np.ones(head.num_classes), np.float64), score, axis=0)


def _class_probability(steps: Steps, grouped: _Grouped, label: Value, rows: Value) -> Value:
    """Average the softmax of each instance's class over its pixels: float64 ``(rows,)``."""
    op = steps.op
    channels = steps.dim(grouped.logits, 1)
    values = op.Gather(steps.reshape(grouped.logits, channels, -1), grouped.pixels, axis=1)
    own = steps.unsqueeze(op.Gather(label, grouped.owner), 0)
    chosen = op.GatherElements(values, own, axis=0)
    odds = steps.total(op.Exp(op.Sub(values, chosen)), 0)
    probability = steps.cast(op.Reciprocal(odds), DOUBLE)
    total = steps.sum_values(grouped.owner, probability, rows, np.float64)
    count = op.Max(steps.count_values(grouped.owner, rows), steps.constant(1))
    return op.Div(total, steps.cast(count, DOUBLE))
