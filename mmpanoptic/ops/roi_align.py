"""RoIAlign, and the pooling of boxes as sparse sums that it shares with RoIPool.

The sampling grid of a bin is the product of a vertical and a horizontal set of points, and so are
the bilinear weights. Average pooling is therefore a weighted sum of pixels whose weights are an
outer product of two short vectors: they are built per axis, and a densely sampled bin touches
each pixel once instead of four times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .backends import adjoint, torchvision_operator
from .gather import MAX_ENTRIES, add_pixel_table, gather_weighted, pixel_table, scatter_weighted
from .precision import compute_dtype, in_full_precision

MAX_POOL_FLOOR = -10000.0
"""mmcv's max pooling starts from this value instead of minus infinity."""


class Pooling(NamedTuple):
    """Geometry: bins (rows, columns), scale of the boxes, samples per bin, half-pixel shift."""

    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool


class _Axis(NamedTuple):
    """Bins of all RoIs along one axis of the feature map; everything is per RoI."""

    start: Tensor  # (R,) in pixels
    bin_size: Tensor  # (R,) in pixels
    grid: Tensor  # (R,) int64, samples in a bin
    bins: int
    size: int  # pixels of the feature map
    limit: int | None  # largest grid, where it is known without asking the device

    @property
    def largest(self) -> int:
        """Samples in a bin of the RoI that has the most; at least 1."""
        return max(1, int(self.grid.max()) if self.limit is None else self.limit)

    def select(self, rois: Tensor) -> _Axis:
        return self._replace(
            start=self.start[rois], bin_size=self.bin_size[rois], grid=self.grid[rois]
        )

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return coordinates (R, bins, G) and which of them exist (R, 1, G)."""
        device, dtype = self.start.device, self.start.dtype
        steps = torch.arange(self.largest, device=device)
        exists = (steps < self.grid[:, None])[:, None]
        offset = (steps.to(dtype) + 0.5) * self.bin_size[:, None] / self.grid[:, None].clamp(min=1)
        bins = torch.arange(self.bins, device=device, dtype=dtype)
        corner = self.start[:, None] + bins * self.bin_size[:, None]
        return corner[..., None] + offset[:, None], exists


def _axes(rois: Tensor, shape: torch.Size, pooling: Pooling) -> tuple[_Axis, _Axis]:
    shift = 0.5 if pooling.aligned else 0.0
    corners = rois[:, 1:] * pooling.spatial_scale - shift
    axes = []
    for axis in (1, 0):
        start, end = corners[:, axis], corners[:, axis + 2]
        length = end - start
        if not pooling.aligned:
            length = length.clamp(min=1.0)
        bins, size = pooling.bins[1 - axis], shape[3 - axis]
        limit = pooling.sampling_ratio if pooling.sampling_ratio > 0 else None
        if limit is not None:
            grid = torch.full_like(length, limit, dtype=torch.long)
        else:
            grid = (length / bins).ceil().nan_to_num(0, posinf=0).clamp(min=0).long()
        axes.append(_Axis(start, length / bins, grid, bins, size, limit))
    return axes[0], axes[1]


def _linear(coords: Tensor, exists: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the two neighbours (int64) and weights of linear interpolation, mmcv's border rule.

    Points up to one pixel outside take the border's value, points farther out count as zero.
    """
    inside = exists & (coords >= -1.0) & (coords <= size)
    coords = coords.clamp(0, size - 1)
    low = coords.floor()
    upper = coords - low
    lower = 1 - upper
    low = low.long()
    high = (low + 1).clamp(max=size - 1)
    zero = torch.zeros_like(upper)
    return low, high, torch.where(inside, lower, zero), torch.where(inside, upper, zero)


def _sample_weights(axis: _Axis) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return neighbours, their weights in the mean of a bin, and which samples exist."""
    coords, exists = axis.samples()
    low, high, lower, upper = _linear(coords, exists, axis.size)
    count = axis.grid.clamp(min=1)[:, None, None].to(lower.dtype)
    return low, high, lower / count, upper / count, exists


def _axis_weights(axis: _Axis) -> tuple[Tensor, Tensor]:
    """Return pixels (R, bins, E) int64 and their weights in the mean of a bin's samples."""
    low, high, lower, upper, exists = _sample_weights(axis)
    if axis.limit is not None and low.device.type != "cpu":
        return torch.cat([low, high], -1), torch.cat([lower, upper], -1)  # nothing to wait for
    first = torch.where(exists, low, axis.size).amin(-1, keepdim=True).clamp(max=axis.size - 1)
    last = torch.where(exists, high, 0).amax(-1, keepdim=True)
    extent = int((last - first).clamp(min=0).max()) + 1
    if 2 * low.size(-1) <= extent:
        return torch.cat([low, high], -1), torch.cat([lower, upper], -1)
    # Samples lie closer than pixels: sum the weights of every pixel of the band instead.
    weights = lower.new_zeros(*lower.shape[:2], extent)
    weights.scatter_add_(-1, (low - first).clamp(0, extent - 1), lower)
    weights.scatter_add_(-1, (high - first).clamp(0, extent - 1), upper)
    band = first + torch.arange(extent, device=first.device)
    return torch.minimum(band, last.clamp(min=0)), weights


def _size_class(grid: Tensor) -> Tensor:
    """Group grids of similar size: classes grow by about a quarter, so that padding stays small."""
    return (grid.clamp(min=1).double().log2() * 3).floor().long()


def _groups(vertical: _Axis, horizontal: _Axis) -> Iterator[Tensor]:
    """Yield the indices (n,) int64 of RoIs that have grids of similar size, in bounded chunks."""
    if vertical.limit is not None:  # all grids are equal
        groups: Sequence[Tensor] = [torch.arange(len(vertical.grid), device=vertical.grid.device)]
    else:
        key = _size_class(vertical.grid) * 4096 + _size_class(horizontal.grid)
        order = key.argsort(stable=True)
        counts = torch.unique_consecutive(key[order], return_counts=True)[1]
        groups = order.split(counts.tolist())
    for group in groups:
        per_roi = 1
        for axis in (vertical, horizontal):
            per_roi *= axis.bins * (axis.select(group).largest + 1)
        yield from group.split(max(1, MAX_ENTRIES // per_roi))


def _outer(
    rois: Tensor,
    vertical: tuple[Tensor, Tensor],
    horizontal: tuple[Tensor, Tensor],
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Combine per-axis pixels and weights into rows of the pixel table, (n * bins, E)."""
    (rows, row_weights), (columns, column_weights) = vertical, horizontal
    base = (rois[:, 0].long() * height)[:, None, None] + rows
    index = (base * width).int()[:, :, None, :, None] + columns.int()[:, None, :, None, :]
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    entries = rows.size(-1) * columns.size(-1)
    return index.reshape(-1, entries), weight.reshape(-1, entries)


def _average_entries(
    rois: Tensor, shape: torch.Size, pooling: Pooling
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield RoI indices (n,), pixel rows (n * bins, E) and weights (n * bins, E)."""
    vertical, horizontal = _axes(rois, shape, pooling)
    for group in _groups(vertical, horizontal):
        rows = _axis_weights(vertical.select(group))
        columns = _axis_weights(horizontal.select(group))
        index, weight = _outer(rois[group], rows, columns, shape[3], shape[2])
        yield group, index, weight


def average_pool(features: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Average bilinear samples in every bin of every RoI.

    Args:
        features: (B, C, H, W) float32 or float64.
        rois: (R, 5), (batch index, x1, y1, x2, y2) in pixels of the image, dtype of ``features``.
        pooling: Geometry.

    Returns:
        (R, C, *bins), dtype of ``features``; zeros for a RoI that has no samples.
    """
    output = features.new_zeros(rois.size(0), features.size(1), *pooling.bins)
    if output.numel() == 0:
        return output
    table = pixel_table(features, features.dtype)
    for group, index, weight in _average_entries(rois, features.shape, pooling):
        pooled = gather_weighted(table, index, weight)
        pooled = pooled.view(group.numel(), *pooling.bins, -1).permute(0, 3, 1, 2)
        output[group] = pooled
    return output


@in_full_precision
def pool_masks(masks: Tensor, owner: Tensor, boxes: Tensor, bins: tuple[int, int]) -> Tensor:
    """Average the pixels of masks in every bin of boxes that lie inside of the masks.

    What :func:`average_pool` gives with ``sampling_ratio=0`` and ``aligned``, by matrix products
    whose sizes do not depend on the boxes: the host does not wait for a GPU.

    Args:
        masks: (K, H, W) float32.
        owner: (R,) int64, the mask of each box.
        boxes: (R, 4) float32, (x1, y1, x2, y2) in pixels; what is outside of the masks is cut off.
        bins: Rows and columns of the result.

    Returns:
        (R, *bins) float32.
    """
    height, width = masks.shape[1:]
    limits = boxes.new_zeros(4)
    limits[0::2], limits[1::2] = width, height
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    rois = torch.cat([owner[:, None].to(boxes.dtype), boxes], 1)
    axes = _axes(rois, torch.Size((1, 1, height, width)), Pooling(bins, 1.0, 0, True))
    rows, columns = (
        _dense_weights(axis._replace(limit=-(-axis.size // axis.bins) + 1)) for axis in axes
    )
    step = max(1, 4 * MAX_ENTRIES // (height * width))
    parts = zip(rows.split(step), columns.split(step), owner.split(step), strict=True)
    pooled = [y @ masks.index_select(0, index) @ x.transpose(1, 2) for y, x, index in parts]
    return torch.cat(pooled) if pooled else boxes.new_zeros(0, *bins)


def _dense_weights(axis: _Axis) -> Tensor:
    """Return the weight of every pixel of the axis in the mean of each bin: (R, bins, size)."""
    low, high, lower, upper, _ = _sample_weights(axis)
    weights = lower.new_zeros(*lower.shape[:2], axis.size)
    return weights.scatter_add_(-1, low, lower).scatter_add_(-1, high, upper)


def average_pool_grad(
    grad_input: Tensor, grad_output: Tensor, rois: Tensor, pooling: Pooling
) -> None:
    """Add the gradient of :func:`average_pool` with respect to the features.

    Args:
        grad_input: (B, C, H, W), changed in place.
        grad_output: (R, C, *bins) float32 or float64.
        rois: (R, 5), dtype of ``grad_output``.
        pooling: Geometry.
    """
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    batch, channels, height, width = grad_input.shape
    rows = grad_output.permute(0, 2, 3, 1).reshape(-1, channels)
    table = rows.new_zeros(batch * height * width, channels)
    bins = torch.arange(rows.size(0), device=rois.device).view(rois.size(0), -1)
    pending: list[tuple[Tensor, Tensor, Tensor]] = []
    for group, index, weight in _average_entries(rois, grad_input.shape, pooling):
        source = bins[group].view(-1, 1).expand_as(index)
        pending.append((index.reshape(-1), source.reshape(-1), weight.reshape(-1)))
        if sum(entries[0].numel() for entries in pending) >= MAX_ENTRIES:
            scatter_weighted(table, rows, *map(torch.cat, zip(*pending, strict=True)))
            pending.clear()
    if pending:
        scatter_weighted(table, rows, *map(torch.cat, zip(*pending, strict=True)))
    add_pixel_table(grad_input, table)


def _corner_entries(
    y: Tensor, x: Tensor, base: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return pixel rows and weights (..., 4) of bilinear interpolation at points of any shape.

    Args:
        y: Rows of the points.
        x: Columns of the points, broadcast against ``y``.
        base: First row of the image in the pixel table, broadcast against the points.
        size: (H, W).
    """
    exists = torch.ones((), dtype=torch.bool, device=y.device)
    top, bottom, top_weight, bottom_weight = _linear(y, exists, size[0])
    left, right, left_weight, right_weight = _linear(x, exists, size[1])
    rows, row_weights = (
        (top, top, bottom, bottom),
        (top_weight, top_weight, bottom_weight, bottom_weight),
    )
    columns, column_weights = (left, right) * 2, (left_weight, right_weight) * 2
    index = [base + row * size[1] + column for row, column in zip(rows, columns, strict=True)]
    weight = [a * b for a, b in zip(row_weights, column_weights, strict=True)]
    return torch.stack(index, -1), torch.stack(weight, -1)


def max_pool(features: Tensor, rois: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor, Tensor]:
    """Take the greatest bilinear sample of every bin of every RoI.

    As in mmcv, the search starts from -10000: where no sample is greater, the result is that value
    and has no position.

    Args:
        features: (B, C, H, W) float32 or float64.
        rois: (R, 5), dtype of ``features``.
        pooling: Geometry.

    Returns:
        Maxima, and rows and columns of the samples they are at (-1: none), each (R, C, *bins).
    """
    shape = (rois.size(0), features.size(1), *pooling.bins)
    maxima = features.new_full(shape, MAX_POOL_FLOOR)
    rows, columns = features.new_full(shape, -1.0), features.new_full(shape, -1.0)
    if maxima.numel() == 0:
        return maxima, rows, columns
    table = pixel_table(features, features.dtype)
    vertical, horizontal = _axes(rois, features.shape, pooling)
    for group in _groups(vertical, horizontal):
        # The samples of one line of each bin are held at once, with all channels.
        line = features.size(1) * pooling.bins[0] * pooling.bins[1]
        line *= horizontal.select(group).largest
        for part in group.split(max(1, 4 * MAX_ENTRIES // line)):
            axes = vertical.select(part), horizontal.select(part)
            found = _max_samples(table, rois[part, 0].long(), axes)
            for target, values in zip((maxima, rows, columns), found, strict=True):
                target[part] = values.permute(0, 3, 1, 2)
    return maxima, rows, columns


def _max_samples(
    table: Tensor, batch: Tensor, axes: tuple[_Axis, _Axis]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return maxima and their rows and columns, each (n, *bins, C), of RoIs of similar size."""
    (y, y_exists), (x, x_exists) = (axis.samples() for axis in axes)
    size = axes[0].size, axes[1].size
    base = (batch * size[0] * size[1])[:, None, None, None]
    shape = (y.size(0), y.size(1), x.size(1), table.size(1))
    best = table.new_full(shape, MAX_POOL_FLOOR)
    rows, columns = table.new_full(shape, -1.0), table.new_full(shape, -1.0)
    for step in range(y.size(-1)):
        line = y[:, :, step, None, None]
        line_y, line_x = line.expand(*shape[:3], x.size(-1)), x[:, None].expand(*shape[:3], -1)
        index, weight = _corner_entries(line_y, line_x, base, size)
        samples = gather_weighted(table, index.reshape(-1, 4), weight.reshape(-1, 4))
        samples = samples.view(*index.shape[:-1], -1)
        exists = (y_exists[..., step, None] & x_exists)[:, None, :, :, None]
        value, position = samples.masked_fill_(~exists, -torch.inf).max(3)
        better = value > best
        best = torch.where(better, value, best)
        rows = torch.where(better, line, rows)
        columns = torch.where(better, line_x.gather(-1, position), columns)
    return best, rows, columns


def max_pool_grad(
    grad_input: Tensor, grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor
) -> None:
    """Add the gradient of :func:`max_pool` with respect to the features.

    Args:
        grad_input: (B, C, H, W), changed in place.
        grad_output: (R, C, *bins) float32 or float64.
        rois: (R, 5).
        argmax_y: (R, C, *bins), rows of the maxima, -1 where there is none.
        argmax_x: (R, C, *bins), columns of the maxima.
    """
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    channels, height, width = grad_input.shape[1:]
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    base = (plane * height * width)[:, :, None, None]
    index, weight = _corner_entries(argmax_y, argmax_x, base, (height, width))
    weight = weight * torch.where(argmax_y == -1, 0, grad_output)[..., None]
    total = grad_output.new_zeros(grad_input.numel())
    total.index_put_((index.reshape(-1),), weight.reshape(-1), accumulate=True)
    grad_input.add_(total.view_as(grad_input).to(grad_input.dtype))


@in_full_precision
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute what ``mmcv._ext.roi_align_forward`` computes.

    Differences from the original: a box of negative size with ``aligned`` is no error on the CPU
    either; without samples it gives zeros.

    Args:
        input: (B, C, H, W).
        rois: (R, 5), (batch index, x1, y1, x2, y2) in pixels of the image.
        output: (R, C, aligned_height, aligned_width), overwritten.
        argmax_y: Like ``output`` for max pooling, overwritten; else empty.
        argmax_x: Likewise.
        aligned_height: Bins per column.
        aligned_width: Bins per row.
        spatial_scale: Size of the features relative to the image.
        sampling_ratio: Samples per bin and axis; 0: one per pixel.
        pool_mode: 0 maximum, 1 average.
        aligned: Shift the boxes by half a pixel.
    """
    dtype = compute_dtype(input, rois)
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    features, boxes = input.to(dtype), rois.to(dtype)
    if pool_mode == 0:
        maxima, rows, columns = max_pool(features, boxes, pooling)
        for target, values in ((output, maxima), (argmax_y, rows), (argmax_x, columns)):
            target.copy_(values)
        return
    torchvision_roi_align = torchvision_operator("roi_align_forward", input.device.type)
    if torchvision_roi_align is not None:
        output.copy_(torchvision_roi_align(features, boxes, *pooling))
    else:
        output.copy_(average_pool(features, boxes, pooling))


@in_full_precision
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute what ``mmcv._ext.roi_align_backward`` computes.

    Args:
        grad_output: (R, C, aligned_height, aligned_width).
        rois: (R, 5), as in the forward pass.
        argmax_y: Positions of the maxima, from the forward pass; empty for average pooling.
        argmax_x: Likewise.
        grad_input: (B, C, H, W), the gradient is added to it.
        aligned_height: As in the forward pass, like all that follow.
        aligned_width: Bins per row.
        spatial_scale: Size of the features relative to the image.
        sampling_ratio: Samples per bin and axis; 0: one per pixel.
        pool_mode: 0 maximum, 1 average.
        aligned: Shift the boxes by half a pixel.
    """
    dtype = compute_dtype(grad_output, rois)
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    grad, boxes = grad_output.to(dtype), rois.to(dtype)
    if pool_mode == 0:
        max_pool_grad(grad_input, grad, boxes, argmax_y.to(dtype), argmax_x.to(dtype))
        return
    torchvision_roi_align = torchvision_operator("roi_align_backward", grad.device.type)
    if torchvision_roi_align is not None:
        like = torch.empty_like(grad_input, dtype=dtype)
        grad_input.add_(
            adjoint(lambda features: torchvision_roi_align(features, boxes, *pooling), like, grad)
        )
    else:
        average_pool_grad(grad_input, grad, boxes, pooling)
