"""Image-wide masks of a coarse grid, enlarged to pixels inside windows only."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpanoptic.structures import BoxedMasks

from .resized_logits import ResizedLogits, Taps


def enlarge_masks(
    maps: Tensor,
    stride: int,
    img_shape: tuple[int, int],
    out_shape: tuple[int, int],
    threshold: float,
    binary: bool = False,
) -> BoxedMasks:
    """Enlarge maps by the stride, crop them to the image, resize them and cut the masks out.

    Both steps are bilinear, so a pixel is a mixture of a few cells and lies above the threshold
    only if one of them does. Nothing is computed elsewhere: the memory is that of the windows,
    where the published procedure holds all maps at the size of the image, twice.

    Args:
        maps (Tensor): float ``(K, h, w)``, probabilities or logits.
        stride (int): Pixels per cell.
        img_shape (tuple[int, int]): Height and width of the image without padding.
        out_shape (tuple[int, int]): Height H and width W of the result.
        threshold (float): A mask consists of the pixels above it.
        binary (bool): Keep the masks as bool instead of the values.

    Returns:
        BoxedMasks: Values of the tightest windows around the masks.
    """
    taps = ResizedLogits(maps, stride, img_shape, out_shape)
    cells = BoxedMasks.from_full(maps > threshold).windows
    rows = _reach(taps.y, cells[:, 1], cells[:, 3])
    columns = _reach(taps.x, cells[:, 0], cells[:, 2])
    numbers = torch.cat([rows, columns], 1).tolist()
    if not numbers:
        kind = torch.bool if binary else torch.float32
        return BoxedMasks(cells, torch.zeros(0, dtype=kind, device=maps.device), out_shape)
    loose = []
    for k, (top, bottom, low, high, left, right, first, last) in enumerate(numbers):
        y = Taps(taps.y.cell[top:bottom] - low, taps.y.weight[top:bottom])
        x = Taps(taps.x.cell[left:right] - first, taps.x.weight[left:right])
        values = _interpolate(taps.logits[k, low:high, first:last], y, x)
        loose.append(values > threshold if binary else values)
    corners = [(left, top) for top, _, _, _, left, _, _, _ in numbers]
    return _tighten(loose, corners, out_shape, threshold)


def _reach(taps: Taps, first: Tensor, end: Tensor) -> Tensor:
    """Find the pixels of an axis that touch cells ``first .. end - 1``, and the cells they need.

    Args:
        taps (Taps): Of the axis.
        first (Tensor): int64 ``(K,)``.
        end (Tensor): int64 ``(K,)``, behind the last cell; ``first`` if there is none.

    Returns:
        Tensor: int64 ``(K, 4)``: first pixel, end of the pixels, first cell, end of the cells.
    """
    low, high = taps.cell[:, 0].contiguous(), taps.cell.amax(1).contiguous()
    start = torch.searchsorted(high, first.contiguous())
    stop = torch.searchsorted(low, end.contiguous())
    stop = torch.where(first < end, stop, start)
    limit = len(low) - 1
    low_cell = low[start.clamp(max=limit)]
    high_cell = high[(stop - 1).clamp(min=0, max=limit)] + 1
    return torch.stack([start, stop, low_cell, high_cell], 1)


def _interpolate(cells: Tensor, y: Taps, x: Taps) -> Tensor:
    """Mix cells ``(h, w)`` to pixels, rows first."""
    total = cells.index_select(0, y.cell[:, 0]).mul_(y.weight[:, :1])
    for n in range(1, y.cell.shape[1]):
        total.addcmul_(cells.index_select(0, y.cell[:, n]), y.weight[:, n, None])
    result = total.index_select(1, x.cell[:, 0]).mul_(x.weight[:, 0])
    for n in range(1, x.cell.shape[1]):
        result.addcmul_(total.index_select(1, x.cell[:, n]), x.weight[:, n])
    return result


def _tighten(
    loose: list[Tensor], corners: list[tuple[int, int]], size: tuple[int, int], threshold: float
) -> BoxedMasks:
    """Cut windows ``(h, w)``, bool or float, with corners (x, y) down to their masks."""
    masks = [values if values.dtype == torch.bool else values > threshold for values in loose]
    ends = [torch.stack([*_ends(mask.any(0)), *_ends(mask.any(1))]) for mask in masks]
    windows, parts = [], []
    numbers = torch.stack(ends).tolist() if ends else []
    for values, (left, top), (x0, x1, y0, y1) in zip(loose, corners, numbers, strict=True):
        parts.append(values[y0:y1, x0:x1].flatten())
        windows.append([left + x0, top + y0, left + x1, top + y1] if x1 > x0 else [0] * 4)
    return BoxedMasks(
        torch.tensor(windows, dtype=torch.int64, device=loose[0].device).view(-1, 4),
        torch.cat(parts),
        size,
    )


def _ends(used: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first used place of ``(L,)`` and the one behind the last; 0, 0 if there is none."""
    if not len(used):
        zero = torch.zeros((), dtype=torch.int64, device=used.device)
        return zero, zero
    number = used.to(torch.uint8)
    some = used.any()
    return number.argmax() * some, (len(used) - number.flip(0).argmax()) * some
