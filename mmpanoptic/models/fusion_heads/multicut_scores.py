"""Scores of the instances of a multiway cut; no loop over instances, no masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.layers import upsample_to_image
from mmpanoptic.models.layers.grid_edges import COLUMN_EDGES, ROW_EDGES, edge_ends, valid_edges

from .nearest_grid import NearestGrid


def mean_over_segments(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Average values over segments.

    Args:
        values (Tensor): ``(...)``.
        index (Tensor): Integers of the same shape, segment from 1, 0 for none.
        num_segments (int): Number of segments M.

    Returns:
        Tensor: float64 ``(M,)``, 0 without values.
    """
    flat = index.flatten().long()
    total = torch.zeros(num_segments + 1, dtype=torch.float64, device=flat.device)
    total.index_add_(0, flat, values.flatten().double())
    count = torch.bincount(flat, minlength=num_segments + 1).clamp_(min=1)
    return (total / count)[1:]


def affinity_scores(
    index: Tensor,
    edge_logits: Sequence[Tensor],
    distances: Sequence[int],
    intervals: Sequence[int],
    num_segments: int,
) -> Tensor:
    """Add up boundary logits of edges with one end in a segment, less those with both ends in it.

    COPS (arXiv:2106.03188), section 6: of each distance the mean over all positions of the array.
    As ``cut - joined = in(a) + in(b) - 3 in(a) in(b)``, the logits are first gathered at the cells
    and then added up once per segment.

    Args:
        index (Tensor): Integers ``(h, w)``, segment of each cell from 1, 0 for none.
        edge_logits (Sequence[Tensor]): ``(2, h', w')`` of each distance, as the network gives them.
        distances (Sequence[int]): Distances of the edges.
        intervals (Sequence[int]): Their sampling intervals.
        num_segments (int): Number of segments M.

    Returns:
        Tensor: float64 ``(M,)``.
    """
    cell = torch.zeros(index.shape, dtype=torch.float32, device=index.device)
    for logits, distance, interval in zip(edge_logits, distances, intervals, strict=True):
        logits = logits.float() / logits.numel()
        if interval > 1:
            valid = valid_edges(tuple(index.shape), distance, interval, index.device)
            full = logits.new_zeros(2, *index.shape)
            full[:, ::interval, ::interval] = logits * valid
            logits = full
        before = 0 if distance == 1 else distance // 2
        for plane, dim in zip(logits, (ROW_EDGES, COLUMN_EDGES), strict=True):
            first, second = edge_ends(index, distance, dim)
            values = plane.narrow(dim, min(before, plane.shape[dim]), first.shape[dim])
            at_first, at_second = edge_ends(cell, distance, dim)
            at_second += values
            at_first += torch.where(first == second, -2 * values, values)
    total = torch.zeros(num_segments + 1, dtype=torch.float64, device=index.device)
    return total.index_add_(0, index.flatten().long(), cell.flatten().double())[1:]


def class_scores(class_logits: Tensor, index: Tensor, label: Tensor, stride: int) -> Tensor:
    """Average the logit of its class over each segment, in the space of the network.

    The mean is that over the bilinearly enlarged logits, taken from the cells alone.

    Args:
        class_logits (Tensor): ``(C, h, w)``.
        index (Tensor): Integers ``(h, w)``, segment of each cell from 1, 0 for none.
        label (Tensor): int64 ``(M,)``, class of each segment.
        stride (int): Pixels per cell.

    Returns:
        Tensor: float64 ``(M,)``.
    """
    shares = _block_shares(stride)
    own = torch.cat([label.new_zeros(1), label])[index.long()]
    padded = functional.pad(class_logits[None].float(), (1, 1, 1, 1), mode="replicate")[0]
    height, width = index.shape
    mean = torch.zeros(index.shape, device=index.device)
    for y, y_share in enumerate(shares):
        for x, x_share in enumerate(shares):
            window = padded[:, y : y + height, x : x + width]
            mean += window.gather(0, own[None])[0].mul_(y_share * x_share)
    return mean_over_segments(mean, index, len(label))


def _block_shares(stride: int) -> tuple[float, float, float]:
    """Tell the mean shares of both neighbours and the cell itself in its enlarged pixels."""
    offsets = ((pixel + 0.5) / stride - 0.5 for pixel in range(stride))
    side = sum(max(offset, 0.0) for offset in offsets) / stride
    return side, 1 - 2 * side, side


def class_scores_of_result(
    class_logits: Tensor, index_map: Tensor, label: Tensor, grid: NearestGrid
) -> Tensor:
    """Average the logit of its class over each segment, over the pixels of the result.

    The published rule: logits are enlarged bilinearly by the stride and then read by nearest
    neighbours. One class is enlarged at a time.

    Args:
        class_logits (Tensor): ``(C, h, w)``.
        index_map (Tensor): int32 ``(H, W)``, segment of each pixel of the result, 0 for none.
        label (Tensor): int64 ``(M,)``, class of each segment.
        grid (NearestGrid): How the result reads cells.

    Returns:
        Tensor: float64 ``(M,)``.
    """
    scores = torch.zeros(len(label), dtype=torch.float64, device=label.device)
    for one in label.unique().tolist():
        logits = class_logits[None, one : one + 1].float()
        pixels = upsample_to_image(logits, grid.stride, grid.img_shape)[0, 0]
        pixels = pixels.index_select(1, grid.pixel_columns).index_select(0, grid.pixel_rows)
        means = mean_over_segments(pixels, index_map, len(label))
        scores = torch.where(label == one, means, scores)
    return scores
