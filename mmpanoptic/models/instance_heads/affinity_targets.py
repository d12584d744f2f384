"""Targets of the affinity head, made on the device for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.layers import SegmentBatch
from mmpanoptic.models.multicut.grid_edges import map_edges
from mmpanoptic.models.multicut.layer import LABEL_DIVISOR


class AffinityTargets(NamedTuple):
    """Targets at the resolution of the head.

    Attributes:
        panoptic (Tensor): int64 ``(N, h, w)``, code of each cell's segment: class times
            ``label_divisor``, plus a running number from 1 for things; -1 for void and crowds.
        weight (Tensor): float32 ``(N, h, w)``, 1 on labelled cells (crowds, too), else 0.
        edges (tuple[Tensor, ...]): bool ``(N, 2, h', w')`` of each distance: the ends belong to
            different segments. See :mod:`mmpanoptic.models.multicut.grid_edges`.
        edge_weights (tuple[Tensor, ...]): float32 ``(N, 2, h', w')`` of each distance.
    """

    panoptic: Tensor
    weight: Tensor
    edges: tuple[Tensor, ...]
    edge_weights: tuple[Tensor, ...]


class EdgeWeights(NamedTuple):
    """How much cells count; the weight of an edge is that of its heavier end.

    Attributes:
        instance (float): Weight of things; stuff has 1.
        small (float): Further factor of small things.
        small_area (int): Things with fewer pixels are small; the area is that of the augmented,
            visible mask.
        stuff (bool): Edges of stuff count.
        padding (bool): The border of the padding is a boundary that counts.
    """

    instance: float = 4.0
    small: float = 3.0
    small_area: int = 4096
    stuff: bool = True
    padding: bool = True


@torch.no_grad()
def make_affinity_targets(
    segments: SegmentBatch,
    distances: Sequence[int],
    intervals: Sequence[int],
    weights: EdgeWeights,
    ignore_crowd: bool = False,
    stride: int = 4,
    label_divisor: int = LABEL_DIVISOR,
) -> AffinityTargets:
    """Tell which neighbours belong together, for all distances and images at once.

    COPS (arXiv:2106.03188), section 5. A cell takes the segment of the pixel in its middle. Crowds
    have no edges; their cells are void in ``panoptic`` but keep their weight, as published, unless
    ``ignore_crowd``.

    Args:
        segments (SegmentBatch): The ground truth.
        distances (Sequence[int]): Distances in cells.
        intervals (Sequence[int]): Sampling interval of each distance.
        weights (EdgeWeights): Weights of the edges.
        ignore_crowd (bool): Cells of crowds have weight 0.
        stride (int): Pixels per cell.
        label_divisor (int): Larger than the number of things of a class in an image.

    Returns:
        AffinityTargets: Targets and weights.
    """
    index = _center_pixels(segments.index, stride, 0)
    padding = _center_pixels(_outside(segments), stride, 1).bool()
    codes = _segment_codes(segments, label_divisor)
    labelled = torch.ones_like(segments.iscrowd)
    labelled[0] = False
    edge_labelled = labelled & ~segments.iscrowd
    if ignore_crowd:
        labelled = edge_labelled
    weight = labelled.float()

    def paint(table: Tensor) -> Tensor:
        return table.index_select(0, index.flatten()).view(index.shape)

    cell = paint(_cell_weights(segments, edge_labelled, weights))
    if weights.padding:
        cell = cell.masked_fill_(padding, 1)
    panoptic = paint(codes)
    pairs = list(zip(distances, intervals, strict=True))
    return AffinityTargets(
        panoptic,
        paint(weight),
        tuple(map_edges(panoptic, d, torch.ne, s) for d, s in pairs),
        tuple(map_edges(cell, d, _heavier_end, s) for d, s in pairs),
    )


def _center_pixels(x: Tensor, stride: int, outside: int) -> Tensor:
    """Take the middle pixel of each cell of maps ``(N, H, W)``, enlarged to whole cells."""
    height, width = x.shape[1:]
    x = functional.pad(x, (0, -width % stride, 0, -height % stride), value=outside)
    return x[:, stride // 2 :: stride, stride // 2 :: stride]


def _outside(segments: SegmentBatch) -> Tensor:
    """Mark the padding with 1: uint8 ``(N, H, W)``."""
    outside = torch.zeros(segments.shape, dtype=torch.uint8, device=segments.device)
    for image, (height, width) in zip(outside, segments.img_shapes, strict=True):
        image[height:] = 1
        image[:, width:] = 1
    return outside


def _segment_codes(segments: SegmentBatch, label_divisor: int) -> Tensor:
    """Number the visible things of each class and image: int64 ``(S + 1,)``, -1 for void."""
    counted = segments.isthing & ~segments.iscrowd & (segments.area > 0)
    same = (segments.label[:, None] == segments.label) & (segments.image[:, None] == segments.image)
    number = (same.tril_() & counted).sum(1)
    codes = segments.label * label_divisor + torch.where(segments.isthing, number, 0)
    codes = codes.masked_fill_(segments.iscrowd, -1)
    codes[0] = -1
    return codes


def _cell_weights(segments: SegmentBatch, labelled: Tensor, weights: EdgeWeights) -> Tensor:
    """Weigh the segments: float32 ``(S + 1,)``."""
    small = segments.area < weights.small_area
    thing = torch.where(small, weights.instance * weights.small, weights.instance)
    return torch.where(segments.isthing, thing, float(weights.stuff)) * labelled


def _heavier_end(first: Tensor, second: Tensor) -> Tensor:
    return torch.maximum(first, second) * ((first > 0) & (second > 0))
