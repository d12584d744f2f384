"""RoIPool forward and backward, as called by ``mmcv.ops.roi_pool``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .gather import pixel_table
from .precision import compute_dtype, in_full_precision

MAX_VALUES = 1 << 24
"""Upper bound on the feature values that are held at once."""


def _windows(
    rois: Tensor, axis: int, bins: int, scale: float, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return first pixels and ends (R, bins) int64, and which boxes have an extent (R,)."""
    start = rois[:, 1 + axis] * scale
    extent = (rois[:, 3 + axis] + 1) * scale - start
    steps = torch.arange(bins + 1, device=rois.device, dtype=rois.dtype)
    edges = (steps * (extent / bins)[:, None] + start[:, None]).nan_to_num(0)
    first = edges[:, :-1].floor().clamp(0, size).long()
    end = edges[:, 1:].ceil().clamp(0, size).long()
    return first, end, extent > 0


def _band(first: Tensor, end: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return pixels (n, bins, E), clamped to the map, and which of them lie in the window."""
    extent = max(1, int((end - first).max()))
    pixels = first[..., None] + torch.arange(extent, device=first.device)
    return pixels.clamp(max=size - 1), pixels < end[..., None]


def _chunks(heights: Tensor, widths: Tensor, per_pixel: int) -> Iterator[Tensor]:
    """Yield indices of RoIs, small ones first, so that the windows of a chunk fit the bound."""
    areas = heights.clamp(min=1) * widths.clamp(min=1)
    order = areas.argsort(stable=True)
    tallest = heights[order].cummax(0).values.clamp(min=1)
    widest = widths[order].cummax(0).values.clamp(min=1)
    begin = 0
    for position, values in enumerate((tallest * widest * per_pixel).tolist()):
        if position > begin and (position + 1 - begin) * values > MAX_VALUES:
            yield order[begin:position]
            begin = position
    yield order[begin:]


def pool(
    features: Tensor, rois: Tensor, bins: tuple[int, int], spatial_scale: float
) -> tuple[Tensor, Tensor]:
    """Take the maximum of the pixels in every bin of every RoI.

    Args:
        features: (B, C, H, W) float32 or float64.
        rois: (R, 5), (batch index, x1, y1, x2, y2) in pixels of the image; x2 and y2 are inside.
        bins: (rows, columns).
        spatial_scale: Size of the features relative to the image.

    Returns:
        Maxima (R, C, *bins), zero for empty bins, and the pixels ``y * W + x`` they are at, int64,
        -1 for empty bins.
    """
    channels, height, width = features.shape[1:]
    maxima = features.new_zeros(rois.size(0), channels, *bins)
    argmax = torch.full_like(maxima, -1, dtype=torch.long)
    if maxima.numel() == 0:
        return maxima, argmax
    table = pixel_table(features, features.dtype)
    top, bottom, tall = _windows(rois, 1, bins[0], spatial_scale, height)
    left, right, wide = _windows(rois, 0, bins[1], spatial_scale, width)
    per_pixel = bins[0] * bins[1] * channels
    chunks = _chunks((bottom - top).amax(1), (right - left).amax(1), per_pixel)
    for group in chunks:
        rows, row_inside = _band(top[group], bottom[group], height)
        columns, column_inside = _band(left[group], right[group], width)
        pixels = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
        inside = row_inside[:, :, None, :, None] & column_inside[:, None, :, None, :]
        inside = inside & (tall & wide)[group].view(-1, 1, 1, 1, 1)
        pixels, inside = pixels.flatten(3), inside.flatten(3)
        index = pixels + (rois[group, 0].long() * (height * width)).view(-1, 1, 1, 1)
        values = table[index].masked_fill_(~inside[..., None], -torch.inf)
        value, position = values.max(3)
        filled = inside.any(3)[..., None]
        where = torch.where(filled, pixels.gather(3, position), -1)
        maxima[group] = torch.where(filled, value, 0).permute(0, 3, 1, 2)
        argmax[group] = where.permute(0, 3, 1, 2)
    return maxima, argmax


@in_full_precision
def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute what ``mmcv._ext.roi_pool_forward`` computes.

    Differences from the original: where a box has no size, ``argmax`` is -1, so that no gradient
    flows; there it keeps its initial zero and the gradient goes to the first pixel.

    Args:
        input: (B, C, H, W).
        rois: (R, 5), (batch index, x1, y1, x2, y2) in pixels of the image.
        output: (R, C, pooled_height, pooled_width), overwritten.
        argmax: Like ``output``, int32, overwritten with the pixels ``y * W + x`` of the maxima.
        pooled_height: Bins per column.
        pooled_width: Bins per row.
        spatial_scale: Size of the features relative to the image.
    """
    dtype = compute_dtype(input, rois)
    bins = (pooled_height, pooled_width)
    maxima, where = pool(input.to(dtype), rois.to(dtype), bins, spatial_scale)
    output.copy_(maxima)
    argmax.copy_(where)


@in_full_precision
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute what ``mmcv._ext.roi_pool_backward`` computes.

    Args:
        grad_output: (R, C, pooled_height, pooled_width).
        rois: (R, 5), as in the forward pass.
        argmax: Pixels of the maxima, from the forward pass.
        grad_input: (B, C, H, W), the gradient is added to it.
        pooled_height: Bins per column; unused, as are the arguments that follow.
        pooled_width: Bins per row.
        spatial_scale: Size of the features relative to the image.
    """
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    dtype = compute_dtype(grad_output)
    channels, height, width = grad_input.shape[1:]
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    index = (plane * height * width)[:, :, None, None] + argmax.clamp(min=0)
    grad = torch.where(argmax < 0, 0, grad_output.to(dtype))
    total = grad.new_zeros(grad_input.numel())
    total.index_put_((index.reshape(-1),), grad.reshape(-1), accumulate=True)
    grad_input.add_(total.view_as(grad_input).to(grad_input.dtype))
