"""EfficientPS's adaptive fusion in the graph; see ``AdaptiveLogitFusionHead``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .detection import Instances, select_by_score
from .errors import ExportError
from .graph import BOOL, FLOAT, INT64, Size, Steps, Value
from .painting import Windows, cut_window, paste, place_windows, spread, window_of
from .preparation import Prepared
from .segments import enlarge, fill_and_number, measure, table

LogitsOf = Callable[[Steps, Value], tuple[Value, Value, Value, Value, Value]]
"""Gives the logits of an instance in its window, the corners of that window, and of the inner one
in which it competes."""


def fuse_boxes(
    steps: Steps, head: Any, prepared: Prepared, semantic: Value, found: Instances
) -> tuple[Value, Value]:
    """Form the panoptic map from instances with boxes.

    Args:
        steps (Steps): The graph.
        head (AdaptiveLogitFusionHead): Its options.
        prepared (Prepared): Sizes.
        semantic (Value): Logits ``(1, C, h, w)``.
        found (Instances): All instances.

    Returns:
        tuple[Value, Value]: int64 map ``(H, W)`` and ``segments``.
    """
    size = prepared.result
    kept = select_by_score(steps, found, head.score_thr)
    outer = place_windows(steps, kept.boxes, kept.cells, size, "grid_sample")
    inner_windows = _inner_windows(steps, head, kept.boxes, size)

    def logits_of(inner: Steps, k: Value) -> tuple[Value, Value, Value, Value, Value]:
        pasted = paste(inner, outer, k, inner.op.Gather(kept.logits, k))
        low, high = window_of(inner, outer, k)
        own_low, own_high = window_of(inner, inner_windows, k)
        own_low = inner.op.Min(inner.op.Max(own_low, low), high)
        own_high = inner.op.Max(own_low, inner.op.Min(own_high, high))
        return pasted, low, high, own_low, own_high

    return compete(steps, head, prepared, semantic, kept.scores, kept.labels, logits_of)


def _inner_windows(steps: Steps, head: Any, boxes: Value, size: Size) -> Windows:
    """Round boxes to the windows in which instances compete."""
    op = steps.op
    limits = [steps.cast(side, FLOAT) for side in size.both()]
    zero, one, half = (steps.constant(n, np.float32) for n in (0, 1, 0.5))
    x0, y0, x1, y1 = steps.columns(boxes)
    lows, highs = [], []
    for low, high, limit in ((y0, y1, limits[0]), (x0, x1, limits[1])):
        if head.legacy_windows:
            start = steps.cast(steps.cast(op.Add(low, one), INT64), FLOAT)
            stop = op.Add(op.Round(op.Sub(high, one)), one)
        else:
            start, stop = (op.Ceil(op.Sub(end, half)) for end in (low, high))
        start, stop = (op.Min(op.Max(end, zero), limit) for end in (start, stop))
        lows.append(steps.cast(start, INT64))
        highs.append(steps.cast(op.Max(start, stop), INT64))
    return Windows(tuple(lows), tuple(highs), (None, None), (None, None), "")


def compete(
    steps: Steps,
    head: Any,
    prepared: Prepared,
    semantic: Value,
    scores: Value,
    labels: Value,
    logits_of: LogitsOf,
) -> tuple[Value, Value]:
    """Let instances and stuff compete for the pixels; see ``LogitContest``.

    Args:
        steps (Steps): The graph.
        head (AdaptiveLogitFusionHead): Its options.
        prepared (Prepared): Sizes.
        semantic (Value): Logits ``(1, C, h, w)``.
        scores (Value): ``(K,)``, descending.
        labels (Value): int64 ``(K,)``.
        logits_of (Callable): See :data:`LogitsOf`.

    Returns:
        tuple[Value, Value]: int64 map ``(H, W)`` and ``segments``.

    Raises:
        ExportError: If instances shall win outside of their boxes.
    """
    if head.legacy_zero_outside:
        raise ExportError(
            "legacy_zero_outside=True of AdaptiveLogitFusionHead, a fault of the authors' code, "
            "has no counterpart in the graph; export with "
            "--cfg-options model.fusion_head.legacy_zero_outside=False"
        )
    op, size = steps.op, prepared.result
    full = steps.squeeze(enlarge(steps, semantic, head.stride, prepared.image, size), 0)
    classes = op.ArgMax(full, axis=0, keepdims=0)
    shape = steps.vector(*size.both())
    if len(head.stuff):
        stuff = op.Gather(full, steps.constant(head.stuff.cpu().numpy()), axis=0)
        best = op.ReduceMax(stuff, steps.constant([0]), keepdims=0)
    else:
        best = steps.full(shape, 0, np.float32)
    channel = op.Gather(steps.constant(head.thing_labels), labels)
    nobody = steps.full(shape, 0, np.int64)

    def enter(inner: Steps, k: Value, best: Value, winner: Value, occupied: Value) -> list[Value]:
        ops = inner.op
        logits, low, high, own_low, own_high = logits_of(inner, k)
        mask = ops.Greater(ops.Sigmoid(logits), inner.constant(0.5, np.float32))
        before = inner.cast(cut_window(inner, occupied, low, high), BOOL)
        taken = ops.Div(inner.count(ops.And(mask, before), FLOAT), inner.count(mask, FLOAT))
        dropped = ops.Greater(taken, inner.constant(head.overlap_thr, np.float32))
        part = cut_window(inner, logits, ops.Sub(own_low, low), ops.Sub(own_high, low))
        part = ops.Mul(part, inner.constant(head.inst_logit_scale, np.float32))
        other = cut_window(inner, ops.Gather(full, ops.Gather(channel, k)), own_low, own_high)
        fused = ops.Mul(ops.Add(ops.Sigmoid(part), ops.Sigmoid(other)), ops.Add(part, other))
        never = inner.constant(-np.inf, np.float32)
        fused = ops.Where(dropped, never, fused)
        fused = spread(inner, fused, own_low, own_high, size, never)
        wins = ops.Greater(fused, best)
        covers = ops.And(mask, ops.Not(dropped))
        covers = spread(inner, inner.cast(covers, INT64), low, high, size, inner.constant(0))
        number = ops.Add(k, inner.constant(1))
        return [
            ops.Max(best, fused),
            ops.Where(wins, number, winner),
            ops.Max(occupied, covers),
        ]

    count = steps.dim(scores, 0)
    _, winner, _ = steps.loop(count, [best, nobody, nobody], enter)
    return _describe(steps, head, scores, channel, winner, classes)


def _describe(
    steps: Steps, head: Any, scores: Value, channel: Value, winner: Value, classes: Value
) -> tuple[Value, Value]:
    op = steps.op
    count = steps.dim(scores, 0)
    rows = op.Add(count, steps.constant(1))
    visible = steps.cut(steps.count_values(steps.reshape(winner, -1), rows), 0, 1)
    index_map, number = fill_and_number(
        steps,
        winner,
        op.Greater(visible, steps.constant(0)),
        steps.span(count),
        classes,
        head.is_stuff.cpu().numpy(),
        head.stuff_area,
    )
    label = op.Concat(channel, steps.constant(np.arange(head.num_classes)), axis=0)
    score = op.Concat(scores, steps.constant(np.ones(head.num_classes), np.float32), axis=0)
    total = steps.count(op.Greater(number, steps.constant(0)))
    boxes, _ = measure(steps, index_map, total)
    return index_map, table(steps, number, label, score, boxes)
