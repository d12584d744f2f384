"""Mask values of boxes, enlarged to the pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import BoxedMasks, as_tensor_on

PASTE_MODES = ("grid_sample", "legacy")
LEGACY_PADDING = 1
"""Cells of zeros that the legacy mode puts around a mask before it enlarges it."""


def paste_masks(
    values: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    mode: str = "grid_sample",
    threshold: float | None = 0.5,
) -> BoxedMasks:
    """Enlarge the mask of each box to the pixels of the image, inside a window around the box.

    Bilinear sampling is separable: each pixel row and column is a mixture of two cells, so a mask
    is the product of three small matrices. Only one window at a time exists as float.

    Differences from the originals: values are equal up to rounding, but no array has the size of
    the image times the number of masks; with "grid_sample" a box without width or height has no
    pixels.

    Args:
        values (Tensor): ``(K, h, w)``, probabilities (or logits) of the cells of each box.
        boxes (Tensor): ``(K, 4)``: x0, y0, x1, y1 in pixels of the image, any position.
        size (tuple[int, int]): ``(H, W)`` of the image.
        mode (str): "grid_sample" samples as ``mmdet.FCNMaskHead`` does: the box ends at its
            coordinates, pixels are sampled at their centres, set where ``value >= threshold``.
            "legacy" is Detectron's: the mask is padded by one cell of
            zeros, the enlarged box is truncated to whole pixels, both ends belong to it, and
            pixels are set where ``value > threshold``.
        threshold (float | None): Where the binary masks start; None keeps the float values.

    Returns:
        BoxedMasks: Bool, or float32 without threshold. The window covers every pixel whose value
        can differ from 0.

    Raises:
        ValueError: If the mode is unknown or the shapes do not fit.
    """
    if mode not in PASTE_MODES:
        raise ValueError(f"paste_masks: mode must be one of {PASTE_MODES}, got {mode!r}")
    if values.ndim != 3 or boxes.shape != (len(values), 4):
        raise ValueError(
            "paste_masks: values must be (K, h, w) and boxes (K, 4), got "
            f"{tuple(values.shape)} and {tuple(boxes.shape)}"
        )
    values, boxes = values.float(), boxes.float()
    place = _place_legacy if mode == "legacy" else _place_sampled
    (x0, x1), x_scale, x_shift = place(boxes[:, 0], boxes[:, 2], values.shape[2], size[1])
    (y0, y1), y_scale, y_shift = place(boxes[:, 1], boxes[:, 3], values.shape[1], size[0])
    windows = torch.stack([x0, y0, x1, y1], 1)
    known = windows.tolist()  # the host waits here, once
    heights = [bottom - top for _, top, _, bottom in known]
    widths = [right - left for left, _, right, _ in known]
    cells = values.shape[1:]
    if mode == "legacy":
        values = torch.nn.functional.pad(values, (LEGACY_PADDING,) * 4)
    with torch.autocast(values.device.type, enabled=False):
        rows = _mixture(y0, heights, y_scale, y_shift, cells[0], mode)
        columns = _mixture(x0, widths, x_scale, x_shift, cells[1], mode)
        empty = torch.empty(
            sum(height * width for height, width in zip(heights, widths, strict=True)),
            dtype=torch.float32 if threshold is None else torch.bool,
            device=values.device,
        )
        result = BoxedMasks(windows, empty, size, known)
        _multiply(values, rows.split(heights), columns.split(widths), result, threshold, mode)
    return result


def _place_sampled(
    low: Tensor, high: Tensor, cells: int, limit: int
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Relate pixels to cells along one axis: the cells divide ``low .. high`` evenly.

    Args:
        low (Tensor): ``(K,)``, start of each box.
        high (Tensor): ``(K,)``, its end.
        cells (int): Cells of the mask.
        limit (int): Pixels of the image.

    Returns:
        tuple: First pixel of the window and the one behind its last (int64 ``(K,)`` each), cells
        per pixel ``(K,)`` and the coordinate that cell 0 starts at ``(K,)``.
    """
    length = high - low
    # Beyond the outermost cells the values fall to 0 over half a cell.
    margin = length.abs() / cells / 2
    start = (torch.minimum(low, high) - margin).floor().clamp(0, limit).long()
    end = (torch.maximum(low, high) + margin).ceil().clamp(0, limit).long()
    empty = length == 0
    end = torch.where(empty, start, end)
    return (start, end), cells / torch.where(empty, torch.ones_like(length), length), low


def _place_legacy(
    low: Tensor, high: Tensor, cells: int, limit: int
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Relate pixels to cells of the padded mask; see :func:`_place_sampled`."""
    padded = cells + 2 * LEGACY_PADDING
    half = (high - low) * 0.5 * (padded / cells)
    middle = (high + low) * 0.5
    first, last = (middle - half).trunc(), (middle + half).trunc()
    length = (last - first + 1).clamp_(min=1)
    start = first.clamp(0, limit).long()
    end = (first + length).clamp(0, limit).long()
    # A box whose ends are swapped still gets one pixel, but only what its own end allows.
    end = torch.minimum(end, (last + 1).clamp(0, limit).long()).clamp(min=start)
    return (start, end), padded / length, first


def _mixture(
    start: Tensor, lengths: Sequence[int], scale: Tensor, shift: Tensor, cells: int, mode: str
) -> Tensor:
    """Tell which cells the pixels of one axis are mixed from.

    Args:
        start (Tensor): int64 ``(K,)``, first pixel of each window.
        lengths (Sequence[int]): Pixels of each window.
        scale (Tensor): ``(K,)``, cells per pixel.
        shift (Tensor): ``(K,)``, the coordinate that cell 0 starts at.
        cells (int): Cells of the mask.
        mode (str): See :func:`paste_masks`.

    Returns:
        Tensor: Weights ``(sum of lengths, cells)``, the masks' pixels one after the other.
    """
    total = sum(lengths)
    count = as_tensor_on(start, lengths)
    owner = torch.repeat_interleave(count, output_size=total)
    before = count.cumsum(0) - count
    pixel = torch.arange(total, device=start.device) - before[owner] + start[owner]
    place = (pixel + 0.5 - shift[owner]) * scale[owner] - 0.5
    if mode == "legacy":
        cells += 2 * LEGACY_PADDING
        place = place.clamp(0, cells - 1)
    cell = torch.arange(cells, device=start.device)
    return (1 - (place[:, None] - cell).abs_()).clamp_(min=0)


def _multiply(
    values: Tensor,
    rows: Sequence[Tensor],
    columns: Sequence[Tensor],
    result: BoxedMasks,
    threshold: float | None,
    mode: str,
) -> None:
    """Mix the cells of each mask by the weights of its rows and columns."""
    for k, (mask, row, column) in enumerate(zip(values, rows, columns, strict=True)):
        if threshold is None:
            torch.mm(row @ mask, column.T, out=result.crop(k))
        else:
            _compare(torch.mm(row @ mask, column.T), threshold, mode, result.crop(k))


def _compare(values: Tensor, threshold: float, mode: str, out: Tensor) -> None:
    """Write where values ``(h, w)`` reach the threshold to a bool tensor."""
    if values.device.type == "cpu":
        # PyTorch does not vectorise comparisons; NumPy is several times faster.
        compare = np.greater if mode == "legacy" else np.greater_equal
        compare(values.numpy(), np.float32(threshold), out=out.numpy())
    else:
        (torch.gt if mode == "legacy" else torch.ge)(values, threshold, out=out)
