"""Targets of the centre/offset head, made on the device for a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.layers import SegmentBatch
from mmpanoptic.models.layers.segment_batch import reused_empty
from mmpanoptic.structures.runs import paint_columns, paint_runs


class CenterOffsetTargets(NamedTuple):
    """Targets at the resolution of the image.

    Attributes:
        center (Tensor): float32 ``(N, 1, H, W)``, Gaussians around the instances' centroids.
        center_weight (Tensor): float32 ``(N, 1, H, W)``, 1 on labelled pixels outside crowds.
        offset (Tensor): float32 ``(N, 2, H, W)``, (dy, dx) in pixels to the centroid; 0 on stuff.
        offset_weight (Tensor): float32 ``(N, 1, H, W)``, 1 on things outside crowds.
        center_points (Tensor): float64 ``(T, 2)``, centroids (y, x) of all things in the order of
            ``SegmentBatch.things``; NaN for things without pixels.
    """

    center: Tensor
    center_weight: Tensor
    offset: Tensor
    offset_weight: Tensor
    center_points: Tensor


@torch.no_grad()
def make_center_offset_targets(
    segments: SegmentBatch, sigma: float = 10.0, ignore_stuff_in_offset: bool = True
) -> CenterOffsetTargets:
    """Draw centre heatmaps and offset fields of a batch.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.2. Crowds draw a Gaussian and get offsets too,
    but their own pixels have weight 0, as in the published implementation.

    Differences from the original: one pass over run lengths for the whole batch instead of one
    pass over the map for each segment; same values.

    Args:
        segments (SegmentBatch): The ground truth.
        sigma (float): Standard deviation of the Gaussians in pixels.
        ignore_stuff_in_offset (bool): Weight 0 on stuff in the offset loss.

    Returns:
        CenterOffsetTargets: Targets and weights.
    """
    centroid = _centroids(segments)
    labelled = torch.arange(len(segments.iscrowd), device=segments.iscrowd.device) > 0
    center_weight = (labelled & ~segments.iscrowd).float()
    offset_weight = center_weight
    if ignore_stuff_in_offset:
        offset_weight = center_weight * segments.isthing
    return CenterOffsetTargets(
        center=_draw_gaussians(segments, centroid, sigma)[:, None],
        center_weight=segments.paint(center_weight)[:, None],
        offset=_offsets_of(segments)(segments, centroid),
        offset_weight=segments.paint(offset_weight)[:, None],
        center_points=centroid[segments.things],
    )


def _centroids(segments: SegmentBatch) -> Tensor:
    """Average the coordinates (y, x) of each segment: float64 ``(S + 1, 2)``, NaN if empty."""
    height, width = segments.shape[1:]
    runs = segments.runs
    row = runs.start // width
    first = runs.start - row * width
    # Sums of integers are exact, so the mean does not depend on their order.
    sum_y = segments.sum_over_runs(row % height * runs.length)
    sum_x = segments.sum_over_runs((2 * first + runs.length - 1) * runs.length // 2)
    return torch.stack([sum_y, sum_x], dim=1).double() / segments.area[:, None]


def _offsets_of(segments: SegmentBatch) -> Callable[[SegmentBatch, Tensor], Tensor]:
    """Choose how to draw offsets: by runs on a CPU, by pixels where runs make the host wait."""
    return _draw_offsets if segments.on_cpu else _draw_offsets_densely


def _draw_offsets_densely(segments: SegmentBatch, centroid: Tensor) -> Tensor:
    """Fill ``(N, 2, H, W)`` as :func:`_draw_offsets` does, with no size that depends on data."""
    images, height, width = segments.shape
    is_thing = segments.paint(segments.isthing)
    offset = torch.empty(images, 2, height, width, device=segments.device)
    for axis, size in enumerate((height, width)):
        place = torch.arange(size, device=offset.device)
        place = place[:, None] if axis == 0 else place
        to_center = segments.paint(centroid[:, axis]) - place
        offset[:, axis] = torch.where(is_thing, to_center, 0.0)
    return offset


def _draw_offsets(segments: SegmentBatch, centroid: Tensor) -> Tensor:
    """Fill ``(N, 2, H, W)`` with the way from each thing pixel to its centroid."""
    images, height, width = segments.shape
    start, _, segment = (column.numpy() for column in segments.runs)
    is_thing = segments.isthing.numpy()[segment]
    to_center = centroid.numpy()[segment]
    dy = np.where(is_thing, to_center[:, 0] - start // width % height, 0).astype(np.float32)
    goal = np.where(is_thing, to_center[:, 1], np.nan)
    offset = reused_empty((images, 2, height, width), torch.float32)
    ends = np.searchsorted(start, np.arange(images + 1) * height * width)
    for image, out in enumerate(offset.numpy()):
        own = slice(ends[image], ends[image + 1])
        first = start[own] - image * height * width
        paint_runs(out[0], first, dy[own])
        paint_columns(out[1], first, goal[own])
    return offset


def _draw_gaussians(segments: SegmentBatch, centroid: Tensor, sigma: float) -> Tensor:
    """Draw the maximum of one Gaussian per thing: ``(N, H, W)``."""
    images, height, width = segments.shape
    if segments.on_cpu:
        return _draw_gaussians_in_turn(segments, centroid, sigma)
    heatmap = torch.zeros(images * height * width, device=segments.device)
    if not len(segments.things):
        return heatmap.view(images, height, width)
    window = torch.from_numpy(_gaussian_window(sigma)).to(heatmap.device, non_blocking=True)
    radius = window.shape[0] // 2
    visible = segments.area[segments.things] > 0
    # torch.round sends halves to the even neighbour, like Python's round.
    peak = centroid[segments.things].nan_to_num_(0).round_().long()
    span = torch.arange(-radius, radius + 1, device=heatmap.device)
    y = peak[:, :1] + span
    x = peak[:, 1:] + span
    inside_y = (y >= 0) & (y < height) & visible[:, None]
    inside = inside_y[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    row = segments.image[segments.things, None] * height + y.clamp_(0, height - 1)
    position = row[:, :, None] * width + x.clamp_(0, width - 1)[:, None, :]
    heatmap.scatter_reduce_(0, position.flatten(), (window * inside).flatten(), "amax")
    return heatmap.view(images, height, width)


def _draw_gaussians_in_turn(segments: SegmentBatch, centroid: Tensor, sigma: float) -> Tensor:
    """Draw the same, window by window."""
    heatmap = reused_empty(segments.shape, torch.float32).zero_()
    maps, window = heatmap.numpy(), _gaussian_window(sigma)
    radius = window.shape[0] // 2
    things = segments.things[segments.area[segments.things] > 0]
    for thing, image in zip(things.tolist(), segments.image[things].tolist(), strict=True):
        y, x = (round(c) for c in centroid[thing].tolist())
        rows = slice(max(y - radius, 0), y + radius + 1)
        columns = slice(max(x - radius, 0), x + radius + 1)
        seen = maps[image, rows, columns]
        top, left = max(radius - y, 0), max(radius - x, 0)
        np.maximum(seen, window[top:, left:][: seen.shape[0], : seen.shape[1]], out=seen)
    return heatmap


@cache
def _gaussian_window(sigma: float) -> np.ndarray:
    """Tabulate a Gaussian of peak 1 within a radius of ``3 sigma + 1`` pixels: float32."""
    radius = int(3 * sigma) + 1
    squares = np.arange(-radius, radius + 1, dtype=np.float64) ** 2
    return np.exp(-(squares[:, None] + squares) / (2 * sigma**2)).astype(np.float32)
