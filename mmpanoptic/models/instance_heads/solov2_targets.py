"""Training targets of SOLOv2: which cells of the grids predict which mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

BYTES = 8
"""Bytes of an int64."""
MAX_CELLS = 3
"""Positive cells per axis: the centre's cell and its neighbours."""


class GridLevels(NamedTuple):
    """The grids of SOLOv2 and which objects each of them predicts.

    Attributes:
        num_grids (tuple[int, ...]): Cells S per axis of each level; a level has S x S cells.
        scale_ranges (tuple[tuple[float, float], ...]): Smallest and largest square root of the
            box area in pixels, both included; an object may belong to two levels.
        pos_scale (float): Part of the box around the centre whose cells are positive.
    """

    num_grids: tuple[int, ...]
    scale_ranges: tuple[tuple[float, float], ...]
    pos_scale: float


class SOLOv2Targets(NamedTuple):
    """Targets of a batch of N images with M instances, P cells (all levels) and T pairs.

    Attributes:
        labels (Tensor): int64 ``(N, P)``, class of each cell; ``num_classes`` for background.
        image (Tensor): int64 ``(T,)``, image of each pair of a cell and a mask.
        cell (Tensor): int64 ``(T,)``, its cell, 0..P-1.
        mask (Tensor): int64 ``(T,)``, its mask, 0..M-1. Pairs are ordered by level, instance, row
            and column; a cell may occur several times.
        masks (Tensor): uint8 ``(M, h, w)``, masks at the size of the mask features.
    """

    labels: Tensor
    image: Tensor
    cell: Tensor
    mask: Tensor
    masks: Tensor


def make_solov2_targets(
    instances: Sequence[Any],
    levels: GridLevels,
    num_classes: int,
    feat_size: tuple[int, int],
    mask_stride: int = 4,
    device: torch.device | str = "cpu",
) -> SOLOv2Targets:
    """Make the targets of a batch at once.

    SOLOv2 (arXiv:2003.10152), section 3.4. Differences from the original, none of which changes a
    number: cells of all instances and levels are computed together, a mask is stored once instead
    of once per cell, and shrinking masks by a quarter of their size needs no OpenCV.

    Args:
        instances (Sequence[InstanceData]): For each image ``bboxes`` ``(K, 4)`` (x0, y0, x1, y1 in
            pixels, ends exclusive), ``labels`` ``(K,)`` in 0..num_classes-1, ``masks``:
            ``BitmapMasks`` or a tensor ``(K, H, W)`` of at most the size of the padded image.
        levels (GridLevels): The grids.
        num_classes (int): Number of classes.
        feat_size (tuple[int, int]): Height and width of the mask features.
        mask_stride (int): Pixels per cell of the mask features; even.
        device (torch.device | str): Where the targets are made.

    Returns:
        SOLOv2Targets: On ``device``.
    """
    size = (feat_size[0] * mask_stride, feat_size[1] * mask_stride)
    masks = [_mask_tensor(one.masks, size, device) for one in instances]
    counts = [len(one) for one in masks]
    boxes = torch.cat([one.bboxes.to(device).float().reshape(-1, 4) for one in instances])
    labels = torch.cat([one.labels.to(device).reshape(-1) for one in instances])
    image = torch.repeat_interleave(
        torch.arange(len(instances), device=device), torch.tensor(counts, device=device)
    )
    center, area = (torch.cat(part) for part in zip(*map(_centers, masks), strict=True))
    small = torch.cat([_shrink(one, feat_size, mask_stride) for one in masks])
    first, last = _cell_boxes(boxes, center, levels, size)
    hit = _levels_of(boxes, levels) & (area > 0)
    pairs = _pairs(first, last, hit, levels)
    cell_labels = _label_cells(pairs, labels, image, len(instances), num_classes, levels)
    return SOLOv2Targets(cell_labels, image[pairs[1]], pairs[0], pairs[1], small)


def num_cells(num_grids: Sequence[int]) -> int:
    """Count the cells of all levels."""
    return sum(side * side for side in num_grids)


def _mask_tensor(masks: Any, size: tuple[int, int], device: torch.device | str) -> Tensor:
    """Take masks as uint8 ``(K, H, W)`` of 0 and 1."""
    data = masks if isinstance(masks, Tensor) else torch.from_numpy(masks.masks)
    if data.shape[1] > size[0] or data.shape[2] > size[1]:
        raise ValueError(
            f"instance masks have {data.shape[1]} x {data.shape[2]} pixels, more than the "
            f"{size[0]} x {size[1]} of the padded images; crop images and masks alike"
        )
    return data.to(device, torch.uint8).reshape(-1, *data.shape[1:])


def _centers(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Find the centres of mass ``(K, 2)`` (y, x) and the areas ``(K,)`` of masks ``(K, H, W)``.

    Sums are exact integers; the division is in float32, as published.
    """
    per_row, per_column = _count(masks)
    area = per_row.sum(1)
    divisor = area.float().clamp(min=1e-6)
    y = (per_row * torch.arange(masks.shape[1], device=masks.device)).sum(1) / divisor
    x = (per_column * torch.arange(masks.shape[2], device=masks.device)).sum(1) / divisor
    return torch.stack([y, x], 1), area


def _count(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels of each row ``(K, H)`` and column ``(K, W)`` of masks ``(K, H, W)``.

    Eight pixels are added at once, as the bytes of one number; of fewer than 256 numbers no byte
    overflows.
    """
    count, height, width = masks.shape
    if not masks.numel():  # arrays without elements may have strides of 0, which no view accepts
        empty = masks.new_zeros(count, max(height, width), dtype=torch.int64)
        return empty[:, :height], empty[:, :width]
    if width % BYTES or masks.storage_offset() % BYTES or not masks.is_contiguous():
        masks = functional.pad(masks, (0, -width % BYTES)).clone()
    eights = masks.view(torch.int64)
    per_row = torch.zeros(count, height, dtype=torch.int64, device=masks.device)
    for part in eights.split(128, dim=2):
        per_row += part.sum(2).view(torch.uint8).view(count, height, BYTES).sum(2)
    per_column = torch.zeros(count, masks.shape[2], dtype=torch.int64, device=masks.device)
    for part in eights.split(128, dim=1):
        per_column += part.sum(1).view(torch.uint8)
    return per_row, per_column[:, :width]


def _shrink(masks: Tensor, feat_size: tuple[int, int], stride: int) -> Tensor:
    """Shrink masks by the stride and put them on the canvas of the mask features.

    OpenCV's bilinear interpolation, which the original uses, mixes the four pixels in the middle
    of each block and rounds a half up: two of them set the cell.
    """
    height, width = masks.shape[1:]
    if height % stride or width % stride:
        masks = functional.pad(masks, (0, -width % stride, 0, -height % stride))
    low, high = stride // 2 - 1, stride // 2
    total = torch.zeros_like(masks[:, low::stride, low::stride])
    for row in (low, high):
        for column in (low, high):
            total += masks[:, row::stride, column::stride]
    small = (total >= 2).to(torch.uint8)
    bottom, right = feat_size[0] - small.shape[1], feat_size[1] - small.shape[2]
    return functional.pad(small, (0, right, 0, bottom))


def _levels_of(boxes: Tensor, levels: GridLevels) -> Tensor:
    """Tell which levels predict which instance: bool ``(L, K)``."""
    side = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    ranges = boxes.new_tensor(levels.scale_ranges)
    return (side >= ranges[:, :1]) & (side <= ranges[:, 1:])


def _cell_boxes(
    boxes: Tensor, center: Tensor, levels: GridLevels, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Find the positive cells of each instance on each level.

    Args:
        boxes (Tensor): ``(K, 4)``.
        center (Tensor): ``(K, 2)``, (y, x).
        levels (GridLevels): The grids.
        size (tuple[int, int]): Height and width of the padded image.

    Returns:
        tuple[Tensor, Tensor]: First and last cell, both included: int64 ``(L, K, 2)``, (y, x).
    """
    sides = torch.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], 1)
    half = 0.5 * sides * levels.pos_scale
    length = boxes.new_tensor(size)
    # 1 / S in double and then rounded, like a Python number that meets a float32 tensor.
    step = boxes.new_tensor([1.0 / grid for grid in levels.num_grids])[:, None, None]

    def cell_of(place: Tensor) -> Tensor:
        return torch.div(place / length, step, rounding_mode="trunc").long()

    middle = cell_of(center)
    limit = torch.tensor(levels.num_grids, device=boxes.device)[:, None, None] - 1
    first = torch.maximum(cell_of(center - half).clamp(min=0), middle - 1)
    last = torch.minimum(torch.minimum(cell_of(center + half), limit), middle + 1)
    return first, last


def _pairs(first: Tensor, last: Tensor, hit: Tensor, levels: GridLevels) -> tuple[Tensor, Tensor]:
    """List the pairs: cell among those of all levels, and instance."""
    step = torch.arange(MAX_CELLS, device=first.device)
    y = first[..., 0, None] + step
    x = first[..., 1, None] + step
    valid = (y <= last[..., 0, None])[..., :, None] & (x <= last[..., 1, None])[..., None, :]
    level, instance, row, column = (valid & hit[..., None, None]).nonzero(as_tuple=True)
    grids = torch.tensor(levels.num_grids, device=first.device)
    start = (grids * grids).cumsum(0) - grids * grids
    cell = start[level] + y[level, instance, row] * grids[level] + x[level, instance, column]
    return cell, instance


def _label_cells(
    pairs: tuple[Tensor, Tensor],
    labels: Tensor,
    image: Tensor,
    num_images: int,
    num_classes: int,
    levels: GridLevels,
) -> Tensor:
    """Label the cells: int64 ``(N, P)``; of several instances the last one."""
    cell, instance = pairs
    cells = num_cells(levels.num_grids)
    owner = torch.full((num_images * cells,), -1, dtype=torch.int64, device=labels.device)
    place = image[instance] * cells + cell
    owner.scatter_reduce_(0, place, instance, "amax")
    # The last entry, which owner -1 picks, is the background.
    table = torch.cat([labels.long(), labels.new_full((1,), num_classes).long()])
    return table[owner].view(num_images, cells)
