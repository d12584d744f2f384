"""Deformable convolution: sampling, products and gradients.

Deformable ConvNets (arXiv 1703.06211) and Deformable ConvNets v2 (arXiv 1811.11168): every tap of
the kernel reads the map at an offset of its own; v2 multiplies what it reads by a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .gather import gather_weighted, pixel_table, scatter_weighted
from .precision import compute_dtype

MAX_VALUES = 1 << 24
"""Upper bound on the sampled feature values that a CPU holds at once."""
MAX_VALUES_OFF_CPU = 1 << 28
"""The same elsewhere: a gigabyte, so that a layer is a few dozen kernels and not thousands."""
KEPT = "_mmpanoptic_samples"
"""Attribute of a workspace, see :meth:`Problem.samples`."""


@dataclass(frozen=True)
class Convolution:
    """Geometry of a convolution, (rows, columns) each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int

    @property
    def taps(self) -> int:
        """Points that the kernel reads."""
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Samples:
    """Sampling points of some output positions; corners are in the order tl, tr, bl, br."""

    index: Tensor  # (n, taps, deform groups, 4) int64 rows of the table (B * H * W * groups, C)
    weight: Tensor  # the same shape, bilinear weights
    weight_dy: Tensor  # their derivatives with respect to the point's row
    weight_dx: Tensor  # and column
    mask: Tensor | None  # (n, taps, deform groups)


def check_shapes(
    input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, conv: Convolution
) -> None:
    """Compare shapes: the memory layout of a wrong offset would be read without complaint.

    Args:
        input: (B, C, H, W).
        offset: (B, 2 * deform groups * taps, Ho, Wo).
        mask: (B, deform groups * taps, Ho, Wo).
        weight: (C_out, C / groups, kernel rows, kernel columns).
        conv: Geometry.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    size = tuple(
        (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for extent, padding, dilation, kernel, stride in zip(
            input.shape[2:], conv.padding, conv.dilation, conv.kernel, conv.stride, strict=True
        )
    )
    expected = {"offset": (offset, 2), "mask": (mask, 1)}
    for name, (tensor, per_tap) in expected.items():
        shape = (input.size(0), per_tap * conv.deform_groups * conv.taps, *size)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(
                f"deformable convolution: {name} has shape {tuple(tensor.shape)}, but input "
                f"{tuple(input.shape)} with {conv} needs {shape}"
            )
    if input.size(1) % conv.deform_groups or input.size(1) != weight.size(1) * conv.groups:
        raise ValueError(
            f"deformable convolution: the input has {input.size(1)} channels, which neither fit "
            f"{conv.deform_groups} deform groups nor weights of shape {tuple(weight.shape)} in "
            f"{conv.groups} groups; check in_channels, groups and deform_groups"
        )


class Problem:
    """Inputs of a deformable convolution in the layout of the computation."""

    def __init__(
        self, input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, conv: Convolution
    ) -> None:
        check_shapes(input, offset, mask, weight, conv)
        self.dtype = compute_dtype(input, weight)
        self.conv = conv
        self.shape = input.shape
        self.size = offset.shape[2:]
        self.channels = input.size(1) // conv.deform_groups
        self.table = pixel_table(input, self.dtype).view(-1, self.channels)
        self.positions = offset.size(0) * self.size[0] * self.size[1]
        taps, deform_groups = conv.taps, conv.deform_groups
        # (B * Ho * Wo, taps, deform groups, 2): row and column
        offset = offset.view(input.size(0), deform_groups, taps, 2, -1).permute(0, 4, 2, 1, 3)
        self._offset = offset
        self.mask = None
        if mask is not None:
            mask = mask.to(self.dtype).view(input.size(0), deform_groups, taps, -1)
            self.mask = mask.permute(0, 3, 2, 1).reshape(-1, taps, deform_groups)
        # (groups, taps * C / groups, C_out / groups)
        out = weight.size(0) // conv.groups
        grouped = weight.to(self.dtype).view(conv.groups, out, weight.size(1), taps)
        self.weight = grouped.permute(0, 3, 2, 1).reshape(conv.groups, -1, out)

    @property
    def offset(self) -> Tensor:
        """Offsets (B * Ho * Wo, taps, deform groups, 2), row and column; laid out once, if ever."""
        # By hand: torch.compile does not enter the lock of functools.cached_property.
        if self._offset.dim() > 4:
            self._offset = self._offset.to(self.dtype).flatten(0, 1)
        return self._offset

    def chunks(self) -> Iterator[slice]:
        """Yield output positions of all images so that what is sampled stays within the bound."""
        per_position = self.conv.taps * self.shape[1]
        limit = MAX_VALUES if self.table.device.type == "cpu" else MAX_VALUES_OFF_CPU
        step = max(1, limit // max(1, per_position))
        for begin in range(0, self.positions, step):
            yield slice(begin, min(begin + step, self.positions))

    def _points(self, positions: slice) -> tuple[Tensor, Tensor]:
        """Return rows and columns (n, taps, deform groups) of the sampling points."""
        conv, device = self.conv, self.table.device
        position = torch.arange(positions.start, positions.stop, device=device)[:, None]
        tap = torch.arange(conv.taps, device=device)
        offset = self.offset[positions]
        cells = (
            (position // self.size[1] % self.size[0], tap // conv.kernel[1]),
            (position % self.size[1], tap % conv.kernel[1]),
        )
        points = []
        for axis, (cell, step) in enumerate(cells):
            regular = cell * conv.stride[axis] - conv.padding[axis] + step * conv.dilation[axis]
            points.append(regular[..., None] + offset[..., axis])
        return points[0].contiguous(), points[1].contiguous()

    def samples(self, positions: slice, workspace: Tensor | None = None) -> Samples:
        """Locate the sampling points of output positions.

        A GPU keeps those of a whole layer from the forward pass for both calls of the backward
        pass, each of which would else launch forty kernels for them.

        Args:
            positions: From :meth:`chunks`.
            workspace: Tensor that mmcv hands to all calls of one layer and one batch.
        """
        whole = positions.stop - positions.start == self.positions
        if workspace is None or not whole or self.table.device.type == "cpu":
            return self._locate(positions)
        if not hasattr(workspace, KEPT):
            setattr(workspace, KEPT, self._locate(positions))
        samples: Samples = getattr(workspace, KEPT)
        return samples

    def _locate(self, positions: slice) -> Samples:
        """Compute the sampling points.

        Points that are a whole pixel or more outside the map count as zero and have no gradient.
        """
        height, width = self.shape[2:]
        y, x = self._points(positions)
        inside = (y > -1) & (x > -1) & (y < height) & (x < width)
        y, x = torch.where(inside, y, 0), torch.where(inside, x, 0)
        top, left = y.floor(), x.floor()
        dy, dx = y - top, x - left
        # The four corners of a cell lie in two new dimensions: down and right.
        step = torch.arange(2, device=y.device)
        row, column = top.long()[..., None] + step, left.long()[..., None] + step
        rows_exist = inside[..., None] & (row >= 0) & (row < height)
        columns_exist = (column >= 0) & (column < width)
        exists = rows_exist[..., :, None] & columns_exist[..., None, :]
        image = torch.arange(positions.start, positions.stop, device=y.device)
        image = (image // (self.size[0] * self.size[1]))[:, None, None, None]
        start = (image * height + row.clamp(0, height - 1)) * width
        pixel = start[..., :, None] + column.clamp(0, width - 1)[..., None, :]
        group = torch.arange(self.conv.deform_groups, device=y.device)[:, None, None]
        vertical = torch.stack([1 - dy, dy], -1)[..., :, None]
        horizontal = torch.stack([1 - dx, dx], -1)[..., None, :]
        sign = 2 * step - 1
        index = (pixel * self.conv.deform_groups + group).flatten(-2)
        weight, weight_dy, weight_dx = (
            (part * exists).flatten(-2)
            for part in (
                vertical * horizontal,
                horizontal * sign[:, None],
                vertical * sign,
            )
        )
        mask = None if self.mask is None else self.mask[positions]
        return Samples(index, weight, weight_dy, weight_dx, mask)

    def grouped(self, columns: Tensor) -> Tensor:
        """Arrange columns (n, taps, C) as (groups, n, taps * C / groups) for the products."""
        count, taps, _ = columns.shape
        groups = self.conv.groups
        return columns.view(count, taps, groups, -1).permute(2, 0, 1, 3).reshape(groups, count, -1)

    def ungrouped(self, columns: Tensor) -> Tensor:
        """Undo :meth:`grouped`, result (n * taps * deform groups, C / deform groups)."""
        groups, count = columns.shape[:2]
        columns = columns.view(groups, count, self.conv.taps, -1).permute(1, 2, 0, 3)
        return columns.reshape(-1, self.channels)

    def by_position(self, maps: Tensor) -> Tensor:
        """Arrange maps (B, C_out, Ho, Wo) as (groups, B * Ho * Wo, C_out / groups)."""
        rows = maps.to(self.dtype).permute(0, 2, 3, 1)
        return rows.reshape(self.positions, self.conv.groups, -1).transpose(0, 1)


def forward(
    problem: Problem, output: Tensor, bias: Tensor | None, workspace: Tensor | None = None
) -> None:
    """Compute the convolution.

    Args:
        problem: Inputs.
        output: (B, C_out, Ho, Wo), overwritten.
        bias: (C_out,).
        workspace: See :meth:`Problem.samples`.
    """
    rows = problem.table.new_empty(problem.positions, output.size(1))
    for positions in problem.chunks():
        samples = problem.samples(positions, workspace)
        columns = _columns(problem, samples)
        rows[positions] = (columns @ problem.weight).transpose(0, 1).flatten(1)
    if bias is not None:
        rows += bias.to(rows.dtype)
    batch, channels, height, width = output.shape
    output.copy_(rows.view(batch, height, width, channels).permute(0, 3, 1, 2))


def _columns(problem: Problem, samples: Samples) -> Tensor:
    """Sample the map for the product with the weights: (groups, n, taps * C / groups)."""
    columns = gather_weighted(problem.table, samples.index.view(-1, 4), _factors(samples))
    return problem.grouped(columns.view(len(samples.index), problem.conv.taps, -1))


def _factors(samples: Samples) -> Tensor:
    """Return what each corner counts (n * taps * deform groups, 4)."""
    weight = samples.weight
    weight = weight if samples.mask is None else weight * samples.mask[..., None]
    return weight.view(-1, 4)


@dataclass
class Gradients:
    """Gradients, in the layout of the computation; None: not wanted."""

    table: Tensor | None = None  # (B * H * W * deform groups, C)
    offset: Tensor | None = None  # (B * Ho * Wo, taps, deform groups, 2)
    mask: Tensor | None = None  # (B * Ho * Wo, taps, deform groups)
    weight: Tensor | None = None  # (groups, taps * C / groups, C_out / groups)


def backward(
    problem: Problem, grad_output: Tensor, grads: Gradients, workspace: Tensor | None = None
) -> None:
    """Compute the gradients that are wanted.

    Args:
        problem: Inputs.
        grad_output: (B, C_out, Ho, Wo).
        grads: Zeros to start with, changed in place.
        workspace: See :meth:`Problem.samples`.
    """
    grad_rows = problem.by_position(grad_output)
    for positions in problem.chunks():
        samples = problem.samples(positions, workspace)
        grad = grad_rows[:, positions]
        if grads.weight is not None:
            grads.weight += _columns(problem, samples).transpose(1, 2) @ grad
        if grads.table is not None:
            columns = problem.ungrouped(grad @ problem.weight.transpose(1, 2))
            source = torch.arange(columns.size(0), device=columns.device).repeat_interleave(4)
            factors = _factors(samples).view(-1)
            scatter_weighted(grads.table, columns, samples.index.view(-1), source, factors)
            _point_gradients(problem, samples, columns, grads, positions)


def _point_gradients(
    problem: Problem,
    samples: Samples,
    columns: Tensor,
    grads: Gradients,
    positions: slice,
) -> None:
    """Set the gradients of offsets and masks from those of the sampled values (N, C)."""
    corners = samples.index.view(-1, 4).unbind(1)
    # What each corner's feature vector contributes: its product with the gradient of the sample.
    products = torch.stack([(problem.table[row] * columns).sum(1) for row in corners], -1)
    products = products.view(samples.weight.shape)
    if grads.offset is not None:
        for axis, derivative in enumerate((samples.weight_dy, samples.weight_dx)):
            slope = (products * derivative).sum(-1)
            if samples.mask is not None:
                slope = slope * samples.mask
            grads.offset[positions][..., axis] = slope
    if grads.mask is not None:
        torch.sum(products * samples.weight, -1, out=grads.mask[positions])


def weight_like(gradient: Tensor, weight: Tensor, conv: Convolution) -> Tensor:
    """Arrange a gradient as the weights are.

    Args:
        gradient: (groups, taps * C / groups, C_out / groups).
        weight: (C_out, C / groups, kernel rows, kernel columns).
        conv: Geometry.
    """
    grouped = gradient.view(conv.groups, conv.taps, weight.size(1), -1).permute(0, 3, 2, 1)
    return grouped.reshape(weight.shape)


def empty_gradients(
    problem: Problem, inputs: bool = False, mask: bool = False, weight: bool = False
) -> Gradients:
    """Return zeros for the gradients that are wanted.

    Args:
        problem: Inputs.
        inputs: Want those of input and offset.
        mask: Want that of the mask; needs ``inputs``.
        weight: Want that of the weights.
    """
    table = problem.table
    points = (problem.positions, problem.conv.taps, problem.conv.deform_groups)
    return Gradients(
        table=torch.zeros_like(table) if inputs else None,
        offset=table.new_empty(*points, 2) if inputs else None,
        mask=table.new_empty(points) if mask else None,
        weight=torch.zeros_like(problem.weight) if weight else None,
    )


def points_like(gradient: Tensor, maps: Tensor) -> Tensor:
    """Arrange gradients of points as offsets or masks are.

    Args:
        gradient: (B * Ho * Wo, taps, deform groups) or, of offsets, with 2 at the end.
        maps: (B, deform groups * taps, Ho, Wo), of offsets with twice the channels.
    """
    batch, _, height, width = maps.shape
    points = gradient.view(batch, height, width, *gradient.shape[1:])
    order = (0, 4, 3, 5, 1, 2) if points.dim() == 6 else (0, 4, 3, 1, 2)
    return points.permute(order).reshape(maps.shape)
