"""Multi-scale deformable attention, forward and backward, as ``mmcv.ops`` calls it on a GPU.

Deformable DETR (arXiv:2010.04159), equation 3. On the CPU ``mmcv.ops`` computes it in PyTorch
itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .precision import compute_dtype


def attend(value: Tensor, shapes: list[list[int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Sum what the queries read at their points, level by level.

    Args:
        value (Tensor): ``(N, S, M, D)``, the cells of all levels.
        shapes (list[list[int]]): Rows and columns of each level.
        locations (Tensor): ``(N, Q, M, L, P, 2)``, (x, y) as shares of the level; outside is 0.
        weights (Tensor): ``(N, Q, M, L, P)``.

    Returns:
        Tensor: ``(N, Q, M * D)``.
    """
    batch, _, heads, depth = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    total = value.new_zeros(batch * heads, depth, queries)
    first = 0
    for level, (height, width) in enumerate(shapes):
        cells = value[:, first : first + height * width]
        first += height * width
        maps = cells.permute(0, 2, 3, 1).reshape(batch * heads, depth, height, width)
        place = locations[:, :, :, level].transpose(1, 2).reshape(-1, queries, points, 2)
        read = functional.grid_sample(maps, place * 2 - 1, align_corners=False)
        share = weights[:, :, :, level].transpose(1, 2).reshape(-1, 1, queries, points)
        total = total + (read * share).sum(-1)
    return total.view(batch, heads * depth, queries).transpose(1, 2)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Compute what ``mmcv._ext.ms_deform_attn_forward`` computes.

    Args:
        value (Tensor): ``(N, S, M, D)``.
        value_spatial_shapes (Tensor): int64 ``(L, 2)``, rows and columns of each level.
        value_level_start_index (Tensor): Not read: levels follow one another.
        sampling_locations (Tensor): ``(N, Q, M, L, P, 2)``.
        attention_weights (Tensor): ``(N, Q, M, L, P)``.
        im2col_step (int): Not read; the images of the compiled operator's launches.

    Returns:
        Tensor: ``(N, Q, M * D)``, of the type of ``value``.
    """
    wide = compute_dtype(value)
    parts = (one.to(wide) for one in (value, sampling_locations, attention_weights))
    cells, locations, weights = parts
    shapes = value_spatial_shapes.tolist()
    with torch.autocast(value.device.type, enabled=False):
        return attend(cells, shapes, locations, weights).to(value.dtype).contiguous()


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Compute what ``mmcv._ext.ms_deform_attn_backward`` computes: all three gradients.

    Args:
        value (Tensor): As there.
        value_spatial_shapes (Tensor): As there.
        value_level_start_index (Tensor): As there.
        sampling_locations (Tensor): As there.
        attention_weights (Tensor): As there.
        grad_output (Tensor): ``(N, Q, M * D)``.
        grad_value (Tensor): Changed in place.
        grad_sampling_loc (Tensor): Changed in place.
        grad_attn_weight (Tensor): Changed in place.
        im2col_step (int): Not read.
    """
    wide = compute_dtype(value)
    given = (value, sampling_locations, attention_weights)
    leaves = [one.detach().to(wide).requires_grad_() for one in given]
    with torch.enable_grad(), torch.autocast(value.device.type, enabled=False):
        output = attend(leaves[0], value_spatial_shapes.tolist(), leaves[1], leaves[2])
    found = torch.autograd.grad(output, leaves, grad_output.to(wide))
    for out, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        out.copy_(grad)
