"""From an image to the network's input, in the graph: resize, normalise, pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ExportError
from .graph import DOUBLE, FLOAT, INT32, INT64, UINT8, Size, Steps, Value

WEIGHT_BITS = 22
"""Of Pillow's weights behind the point."""
IGNORED_STEPS = ("LoadImage", "LoadPanopticAnnotations", "PackPanopticInputs")


@dataclass(frozen=True)
class Prepared:
    """What the network and the steps behind it get.

    Attributes:
        inputs (Value): float32 ``(1, 3, H', W')``, normalised and padded.
        image (Size): Of the resized image, without padding.
        padded (Size): With padding.
        result (Size): Of the image as it was given.
    """

    inputs: Value
    image: Size
    padded: Size
    result: Size


@dataclass(frozen=True)
class Resizing:
    """How the test pipeline resizes an image.

    Attributes:
        short_edge (int): Length of the short edge.
        max_size (int | None): Limit of the long edge.
        backend (str): "pillow" or "cv2".
        rule (str): "round" or "detectron", see ``ResizeShortestEdge``.
    """

    short_edge: int
    max_size: int | None
    backend: str
    rule: str


@dataclass(frozen=True)
class Stretching:
    """How the test pipeline stretches grey levels, see ``StretchContrast``.

    Attributes:
        low (float): Percentile that becomes 0.
        high (float): Percentile that becomes 255.
    """

    low: float
    high: float


def read_pipeline(pipeline: Any) -> list[Resizing | Stretching]:
    """Read what the test pipeline does to an image.

    Args:
        pipeline (Sequence[dict]): Configs of its steps.

    Returns:
        list[Resizing | Stretching]: In order; at most one of them resizes.

    Raises:
        ExportError: If there is a step that the graph does not know.
    """
    found: list[Resizing | Stretching] = []
    for step in pipeline:
        kind = str(step["type"]).rpartition(".")[2]
        sized = any(isinstance(one, Resizing) for one in found)
        if kind == "ResizeShortestEdge" and not sized and isinstance(step["short_edge"], int):
            rule = step.get("size_rule", "round")
            backend = step.get("backend", "pillow")
            found.append(Resizing(step["short_edge"], step.get("max_size"), backend, rule))
        elif kind == "StretchContrast":
            found.append(Stretching(step.get("low", 0.1), step.get("high", 99.9)))
        elif kind not in IGNORED_STEPS:
            raise ExportError(
                f"the test pipeline has the step {kind}, which has no counterpart in the graph; "
                "one ResizeShortestEdge with one short_edge, and StretchContrast, can be exported"
            )
    return found


def prepare(
    steps: Steps,
    image: Value,
    pipeline: Sequence[Resizing | Stretching],
    preprocessor: Any,
    divisor: int,
) -> Prepared:
    """Prepare an image.

    Args:
        steps (Steps): The graph.
        image (Value): uint8 RGB ``(H, W, 3)``.
        pipeline (Sequence[Resizing | Stretching]): From :func:`read_pipeline`.
        preprocessor (PanopticDataPreprocessor): Of the model.
        divisor (int): The sides of the network's input are multiples of it.

    Returns:
        Prepared: See there.
    """
    op = steps.op
    result = Size(steps.dim(image, 0), steps.dim(image, 1))
    planes = steps.unsqueeze(op.Transpose(image, perm=[2, 0, 1]), 0)
    size = result
    for one in pipeline:
        if isinstance(one, Stretching):
            planes = stretch(steps, planes, one)
        else:
            size = resized_size(steps, result, one)
            planes = resize_image(steps, planes, size, one.backend)
    if not preprocessor.bgr_to_rgb:
        planes = op.Gather(planes, steps.constant([2, 1, 0]), axis=1)
    mean, std = (
        steps.constant(part.detach().cpu().numpy().reshape(1, 3, 1, 1), np.float32)
        for part in (preprocessor.mean, preprocessor.std)
    )
    padded = padded_size(steps, size, preprocessor.pad_size, divisor)
    pixels = steps.cast(planes, FLOAT)
    if preprocessor.pad_colour == "black":
        pixels = pad(steps, pixels, size, padded)
    pixels = op.Div(op.Sub(pixels, mean), std)
    if preprocessor.pad_colour != "black":
        pixels = pad(steps, pixels, size, padded)
    return Prepared(pixels, size, padded, result)


def stretch(steps: Steps, planes: Value, levels: Stretching) -> Value:
    """Stretch the grey levels of uint8 ``(1, 3, H, W)``."""
    op = steps.op
    numbers = steps.reshape(steps.cast(planes, INT64), -1)
    total = steps.cast(steps.dim(numbers, 0), DOUBLE)
    counted = steps.cast(steps.count_values(numbers, steps.constant(256)), DOUBLE)
    share = op.Div(op.CumSum(counted, steps.constant(0)), total)
    low, high = (steps.constant(number / 100, np.float64) for number in (levels.low, levels.high))
    black = steps.count(op.LessOrEqual(share, low))
    white = steps.count(op.Less(share, high))
    grey = steps.constant(np.arange(256), np.float64)
    some = op.Greater(white, black)
    width = steps.cast(op.Max(op.Sub(white, black), steps.constant(1)), DOUBLE)
    slope = op.Div(steps.constant(255, np.float64), width)
    line = op.Round(op.Mul(op.Sub(grey, steps.cast(black, DOUBLE)), slope))
    bounds = (steps.constant(number, np.float64) for number in (0, 255))
    table = op.Where(some, op.Clip(line, *bounds), grey)
    return op.Reshape(op.Gather(steps.cast(table, UINT8), numbers), op.Shape(planes))


def pad(steps: Steps, pixels: Value, size: Size, padded: Size) -> Value:
    """Pad maps ``(N, C, h, w)`` with 0 on the right and at the bottom."""
    missing = (steps.op.Sub(new, old) for new, old in zip(padded.both(), size.both(), strict=True))
    return steps.op.Pad(pixels, steps.vector(0, 0, 0, 0, 0, 0, *missing))


def padded_size(steps: Steps, size: Size, fixed: tuple[int, ...] | None, divisor: int) -> Size:
    """Compute the size of the network's input."""
    if fixed is not None:
        return Size(steps.constant(fixed[0]), steps.constant(fixed[1]))
    op, unit = steps.op, steps.constant(divisor)
    rounded = (
        op.Mul(op.Div(op.Add(side, steps.constant(divisor - 1)), unit), unit)
        for side in size.both()
    )
    return Size(*rounded)


def resized_size(steps: Steps, size: Size, resizing: Resizing) -> Size:
    """Compute the size as ``shortest_edge_size`` or ``detectron_size`` do, in double precision."""
    op = steps.op
    height, width = (steps.cast(side, DOUBLE) for side in size.both())
    short, long = op.Min(height, width), op.Max(height, width)

    def number(value: float) -> Value:
        return steps.constant(value, np.float64)

    edge = number(resizing.short_edge)
    if resizing.rule == "detectron":
        if resizing.max_size is not None:
            limit = number(resizing.max_size)
            too_long = op.Greater(op.Mul(op.Div(long, short), edge), limit)
            fitted = op.Max(op.Round(op.Div(op.Mul(limit, short), long)), number(1))
            edge = op.Where(too_long, fitted, edge)
        wide = op.Floor(op.Div(op.Mul(edge, width), height))
        tall = op.Floor(op.Div(op.Mul(edge, height), width))
        narrow = op.Less(width, height)
        sides = [op.Where(narrow, tall, edge), op.Where(narrow, edge, wide)]
        same = op.Equal(short, edge)
        sides = [op.Where(same, old, new) for old, new in zip((height, width), sides, strict=True)]
    else:
        scale = op.Div(edge, short)
        flat = op.Less(height, width)
        sides = [
            op.Where(flat, edge, op.Mul(scale, height)),
            op.Where(flat, op.Mul(scale, width), edge),
        ]
        if resizing.max_size is not None:
            limit, longest = number(resizing.max_size), op.Max(*sides)
            shrink = op.Where(op.Greater(longest, limit), op.Div(limit, longest), number(1))
            sides = [op.Mul(side, shrink) for side in sides]
        sides = [op.Floor(op.Add(side, number(0.5))) for side in sides]
    return Size(*(steps.cast(op.Max(side, number(1)), INT64) for side in sides))


def resize_image(steps: Steps, planes: Value, size: Size, backend: str) -> Value:
    """Resize ``(1, 3, H, W)`` of uint8 as Pillow or OpenCV does.

    OpenCV does not antialias and rounds once; its weights have 11 bits, so that some pixels differ
    by one grey level.
    """
    if backend == "pillow":  # columns first, then rows
        for axis, length in ((3, size.width), (2, size.height)):
            planes = _resample(steps, planes, axis, length)
        return planes
    op = steps.op
    sizes = steps.vector(1, 3, *size.both())
    options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    resized = op.Resize(steps.cast(planes, FLOAT), None, None, sizes, **options)
    # Half goes up; ONNX's Round sends it to the even number.
    whole = op.Floor(op.Add(resized, steps.constant(0.5, np.float32)))
    bounds = (steps.constant(number, np.float32) for number in (0, 255))
    return steps.cast(op.Clip(whole, *bounds), UINT8)


def _resample(steps: Steps, planes: Value, axis: int, length: Value) -> Value:
    """Resize one axis with Pillow's bilinear filter, to the bit.

    Its weights are whole numbers of 2^-22: with sizes like 256 and 320 a tenth of the pixels lie
    half-way between two grey levels, and the weights' rounding decides.
    """
    op = steps.op
    old = steps.dim(planes, axis)

    def number(value: float) -> Value:
        return steps.constant(value, np.float64)

    scale = op.Div(steps.cast(old, DOUBLE), steps.cast(length, DOUBLE))
    reach = op.Max(scale, number(1))
    half = number(0.5)
    center = op.Mul(op.Add(steps.span(length, DOUBLE), half), scale)
    low, high = (
        steps.cast(op.Add(edge, half), INT64)
        for edge in (op.Sub(center, reach), op.Add(center, reach))
    )
    low, high = op.Max(low, steps.constant(0)), op.Min(high, old)
    taps = op.ReduceMax(op.Sub(high, low), keepdims=0)
    place = op.Add(steps.unsqueeze(low, 0), steps.unsqueeze(steps.span(taps), 1))
    middle = op.Add(steps.cast(place, DOUBLE), half)
    away = op.Div(op.Abs(op.Sub(middle, steps.unsqueeze(center, 0))), reach)
    weight = op.Max(op.Sub(number(1), away), number(0))
    weight = op.Mul(weight, steps.cast(op.Less(place, steps.unsqueeze(high, 0)), DOUBLE))
    share = op.Div(weight, steps.total(weight, 0, keep=True))
    whole = steps.cast(op.Add(op.Mul(share, number(1 << WEIGHT_BITS)), half), INT32)
    whole = whole if axis == 3 else steps.unsqueeze(whole, 2)  # (taps, length, 1) for rows
    place = op.Min(place, op.Sub(old, steps.constant(1)))
    pixels = steps.cast(planes, INT32)
    start = op.Gather(pixels, op.Gather(place, steps.constant(0)), axis=axis)
    rounding = steps.constant(1 << (WEIGHT_BITS - 1), np.int32)
    start = op.Add(op.Mul(start, steps.constant(0, np.int32)), rounding)

    def add_tap(inner: Steps, tap: Value, total: Value) -> list[Value]:
        seen = inner.op.Gather(pixels, inner.op.Gather(place, tap), axis=axis)
        return [inner.op.Add(total, inner.op.Mul(seen, inner.op.Gather(whole, tap)))]

    (total,) = steps.loop(taps, [start], add_tap)
    level = op.Div(total, steps.constant(1 << WEIGHT_BITS, np.int32))
    return steps.cast(op.Min(level, steps.constant(255, np.int32)), UINT8)
