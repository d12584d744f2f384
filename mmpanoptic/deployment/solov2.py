"""SOLOv2's selection of instances in the graph; see ``SOLOv2FusionHead``."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .graph import FLOAT, INT64, Size, Steps, Value
from .logit_contest import compete
from .painting import cut_window
from .preparation import Prepared
from .segments import enlarge, measure, table

BLOCK = 64
"""Candidates whose masks are measured at a time."""


class Found(NamedTuple):
    """Instances by descending score.

    Attributes:
        scores (Value): ``(K,)``, lowered by the suppression.
        labels (Value): int64 ``(K,)``, class of the head.
        logits (Value): ``(K, h, w)`` of the mask features' grid.
    """

    scores: Value
    labels: Value
    logits: Value


def fuse(
    steps: Steps, head: Any, prepared: Prepared, outputs: list[Value], semantic: Value | None
) -> tuple[Value, Value]:
    """Form the panoptic map; without semantic branch, of the instances alone.

    Args:
        steps (Steps): The graph.
        head (SOLOv2FusionHead): Its options.
        prepared (Prepared): Sizes.
        outputs (list[Value]): Category logits ``(1, C, P)``, kernels ``(1, E, P)`` and mask
            features ``(1, E, h, w)``.
        semantic (Value | None): Logits ``(1, C, h, w)``.

    Returns:
        tuple[Value, Value]: int64 map ``(H, W)`` and ``segments``.
    """
    found = select(steps, head, *(steps.squeeze(output, 0) for output in outputs))
    if head.fusion is None:
        return _stack(steps, head, prepared, found)
    op, contest = steps.op, head.fusion
    enough = op.GreaterOrEqual(found.scores, steps.constant(contest.score_thr, np.float32))
    found = _take(steps, found, steps.where_true(enough))
    rules = head.rules
    threshold = math.log(rules.mask_thr / (1 - rules.mask_thr))
    sizes = (head.mask_stride, prepared.image, prepared.result)

    def logits_of(inner: Steps, k: Value) -> tuple[Value, Value, Value, Value, Value]:
        full = _full(inner, found, k, sizes)
        low, high = _tight(inner, inner.op.Greater(full, inner.constant(threshold, np.float32)))
        return cut_window(inner, full, low, high), low, high, low, high

    return compete(steps, contest, prepared, semantic, found.scores, found.labels, logits_of)


def _take(steps: Steps, found: Found, index: Value) -> Found:
    return Found(*(steps.op.Gather(part, index) for part in found))


def _full(steps: Steps, found: Found, k: Value, sizes: tuple[int, Size, Size]) -> Value:
    """Enlarge the logits of an instance to the result: ``(H, W)``."""
    return steps.squeeze(
        enlarge(steps, steps.unsqueeze(steps.op.Gather(found.logits, k), 0, 1), *sizes), 0, 1
    )


def _tight(steps: Steps, mask: Value) -> tuple[Value, Value]:
    """Find the corners (y, x) of the tightest window around a mask; 0 where it is empty."""
    op = steps.op
    lows, highs = [], []
    numbers = steps.cast(mask, INT64)
    some = op.ReduceMax(numbers, keepdims=0)
    for axis in (0, 1):
        used = op.ReduceMax(numbers, steps.constant([1 - axis]), keepdims=0)
        first = op.ArgMax(used, axis=0, keepdims=0)
        last = op.ArgMax(used, axis=0, keepdims=0, select_last_index=1)
        lows.append(op.Mul(first, some))
        highs.append(op.Mul(op.Add(last, steps.constant(1)), some))
    return steps.vector(*lows), steps.vector(*highs)


def select(steps: Steps, head: Any, logits: Value, kernels: Value, feats: Value) -> Found:
    """Select the instances; see ``SOLOv2FusionHead.select``."""
    op, rules = steps.op, head.rules
    scores = _suppress_neighbours(steps, head, logits)
    likely = op.Greater(
        op.Transpose(scores, perm=[1, 0]), steps.constant(rules.score_thr, np.float32)
    )
    places = op.NonZero(likely)
    cells, labels = (op.Gather(places, steps.constant(n), axis=0) for n in (0, 1))
    pairs = op.Concat(steps.unsqueeze(labels, 1), steps.unsqueeze(cells, 1), axis=1)
    values, order = steps.descending(op.GatherND(scores, pairs))
    cells, labels = op.Gather(cells, order), op.Gather(labels, order)
    if rules.preselect:
        values, cells, labels = (
            steps.first(part, rules.nms_pre) for part in (values, cells, labels)
        )
    side = op.Shape(feats, start=1)
    feats = steps.reshape(feats, steps.dim(feats, 0), -1)
    area, maskness = _measure(steps, kernels, feats, cells, rules.mask_thr)
    least = op.Gather(steps.constant(head.min_area.cpu().numpy(), np.float32), cells)
    large = steps.where_true(op.Greater(area, least))
    values = op.Gather(op.Mul(values, maskness), large)
    values, order = steps.descending(values)
    best = steps.first(order, rules.nms_pre)
    values = steps.first(values, rules.nms_pre)
    cells, labels = (op.Gather(op.Gather(part, large), best) for part in (cells, labels))
    masks = op.MatMul(op.Transpose(op.Gather(kernels, cells, axis=1), perm=[1, 0]), feats)
    lowered = _matrix_nms(steps, masks, labels, values, rules)
    lowered, order = steps.descending(lowered)
    stays = steps.where_true(
        op.GreaterOrEqual(lowered, steps.constant(rules.filter_thr, np.float32))
    )
    stays = steps.first(stays, rules.max_per_img)
    order = op.Gather(order, stays)
    shape = op.Concat(steps.constant([-1]), side, axis=0)
    return Found(
        op.Gather(lowered, stays),
        op.Gather(labels, order),
        op.Reshape(op.Gather(masks, order), shape),
    )


def _suppress_neighbours(steps: Steps, head: Any, logits: Value) -> Value:
    """Keep the scores ``(C, P)`` that are the largest of their 2x2 window."""
    op, start, kept = steps.op, 0, []
    scores = op.Sigmoid(logits)
    for side in head.num_grids:
        level = steps.cut(scores, 1, start, start + side**2)
        level = steps.reshape(level, steps.dim(level, 0), side, side)
        best = op.MaxPool(
            steps.unsqueeze(level, 0), kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0]
        )
        same = steps.cast(op.Equal(level, steps.squeeze(best, 0)), FLOAT)
        kept.append(op.Flatten(op.Mul(level, same), axis=1))
        start += side**2
    return kept[0] if len(kept) == 1 else op.Concat(*kept, axis=1)


def _measure(
    steps: Steps, kernels: Value, feats: Value, cells: Value, mask_thr: float
) -> tuple[Value, Value]:
    """Compute areas ``(K,)`` of the candidates' masks and mean probabilities of their pixels."""
    op, block = steps.op, steps.constant(BLOCK)
    count = steps.dim(cells, 0)
    rounds = op.Div(op.Add(count, steps.constant(BLOCK - 1)), block)
    missing = op.Sub(op.Mul(rounds, block), count)
    padded = op.Pad(cells, steps.vector(0, missing))

    def measure_block(inner: Steps, number: Value) -> list[Value]:
        ops = inner.op
        begin = ops.Mul(number, inner.constant(BLOCK))
        part = inner.cut(padded, 0, begin, ops.Add(begin, inner.constant(BLOCK)))
        chosen = ops.Transpose(ops.Gather(kernels, part, axis=1), perm=[1, 0])
        probability = ops.Sigmoid(ops.MatMul(chosen, feats))
        mask = inner.cast(ops.Greater(probability, inner.constant(mask_thr, np.float32)), FLOAT)
        return [inner.total(mask, 1), inner.total(ops.Mul(probability, mask), 1)]

    area, total = (
        steps.cut(steps.reshape(part, -1), 0, 0, count)
        for part in steps.loop(rounds, [], measure_block, stacked=2)
    )
    return area, op.Div(total, op.Max(area, steps.constant(1, np.float32)))


def _matrix_nms(steps: Steps, logits: Value, labels: Value, scores: Value, rules: Any) -> Value:
    """Lower scores by the overlap with better masks of the same class; see ``matrix_nms``."""
    op, one = steps.op, steps.constant(1, np.float32)
    above = op.Greater(op.Sigmoid(logits), steps.constant(rules.mask_thr, np.float32))
    masks = steps.cast(above, FLOAT)
    common = op.MatMul(masks, op.Transpose(masks, perm=[1, 0]))
    area = steps.total(masks, 1)
    union = op.Sub(op.Add(steps.unsqueeze(area, 1), area), common)
    numbers = steps.span(steps.dim(labels, 0))
    better = op.Less(steps.unsqueeze(numbers, 1), numbers)
    lowers = op.And(better, op.Equal(steps.unsqueeze(labels, 1), labels))
    iou = op.Mul(op.Div(common, op.Max(union, one)), steps.cast(lowers, FLOAT))
    # One more row and column, so that there is a largest where nothing was found.
    iou = op.Pad(iou, steps.constant([0, 0, 1, 1]))
    covered = steps.unsqueeze(op.ReduceMax(iou, steps.constant([0]), keepdims=0), 1)
    if rules.kernel == "linear":
        decay = op.Div(op.Sub(one, iou), op.Sub(one, covered))
        decay = op.Where(op.IsNaN(decay), one, decay)
    else:
        sigma = steps.constant(-rules.sigma, np.float32)
        decay = op.Div(*(op.Exp(op.Mul(sigma, op.Mul(part, part))) for part in (iou, covered)))
    lowest = op.ReduceMin(decay, steps.constant([0]), keepdims=0)
    return op.Mul(scores, steps.cut(lowest, 0, 0, steps.dim(scores, 0)))


def _stack(steps: Steps, head: Any, prepared: Prepared, found: Found) -> tuple[Value, Value]:
    """Let each pixel belong to the best instance whose mask has it; the rest is void."""
    op, size = steps.op, prepared.result
    sizes = (head.mask_stride, prepared.image, size)
    probabilities = Found(found.scores, found.labels, op.Sigmoid(found.logits))

    def put(inner: Steps, k: Value, owner: Value) -> list[Value]:
        full = _full(inner, probabilities, k, sizes)
        mask = inner.op.Greater(full, inner.constant(head.rules.mask_thr, np.float32))
        free = inner.op.Equal(owner, inner.constant(0))
        own = inner.op.And(mask, free)
        return [inner.op.Where(own, inner.op.Add(k, inner.constant(1)), owner)]

    nobody = steps.full(steps.vector(*size.both()), 0, np.int64)
    count = steps.dim(found.scores, 0)
    (owner,) = steps.loop(count, [nobody], put)
    rows = op.Add(count, steps.constant(1))
    visible = steps.count_values(steps.reshape(owner, -1), rows)
    seen = op.Greater(visible, steps.constant(0))
    seen = op.And(seen, op.Greater(steps.span(rows), steps.constant(0)))
    seen = steps.cast(seen, INT64)
    number = op.Mul(op.CumSum(seen, steps.constant(0)), seen)
    index_map = op.Gather(number, owner)
    boxes, _ = measure(steps, index_map, op.ReduceSum(seen, keepdims=0))
    labels = op.Gather(steps.constant(head.thing_labels.cpu().numpy()), found.labels)
    return index_map, table(steps, steps.cut(number, 0, 1), labels, found.scores, boxes)
