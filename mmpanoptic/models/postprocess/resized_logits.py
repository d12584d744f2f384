"""Logits at the size of an image, computed for the parts that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.layers.resize import resize_bilinear, upsample_to_image

CACHE_ELEMENTS = 1 << 18
"""Numbers per block of work on CPUs, so that a block stays in the cache."""


def most_likely_class(logits: Tensor) -> Tensor:
    """Find the class with the largest logit; of equal ones the first.

    ``Tensor.argmax`` over the first dimension is not vectorised on CPUs. There, the maximum and
    then the first class that reaches it are found with vectorised operations, about three times
    faster.

    Args:
        logits (Tensor): ``(C, H, W)``.

    Returns:
        Tensor: int64 ``(H, W)``. A pixel with NaN gets some class.
    """
    if logits.device.type != "cpu":
        return logits.argmax(0)
    num_classes = len(logits)
    countdown = torch.arange(num_classes, 0, -1, dtype=torch.float32)[:, None]
    size = max(CACHE_ELEMENTS // num_classes, 1)
    best = torch.empty(logits[0].numel(), dtype=torch.int64)
    for part, out in zip(logits.flatten(1).split(size, 1), best.split(size), strict=True):
        rank = torch.empty(part.shape, dtype=torch.float32)
        torch.eq(part, part.amax(0), out=rank)
        out.copy_(rank.mul_(countdown).amax(0))
    return best.neg_().add_(num_classes).clamp_(max=num_classes - 1).view(logits.shape[1:])


BAND_PIXELS = {"cpu": 1 << 18}
"""Pixels per band of rows by device type."""
DEFAULT_BAND_PIXELS = 1 << 21


class Taps(NamedTuple):
    """Cells of one axis that the pixels of this axis are mixed from.

    Attributes:
        cell (Tensor): int64 ``(L, T)``, ascending; cells of weight 0 repeat the first one.
        weight (Tensor): float32 ``(L, T)``.
    """

    cell: Tensor
    weight: Tensor


class ResizedLogits:
    """Logits that are enlarged by the stride, cropped to the image and resized to the result.

    The logits of all classes at full size are by far the largest array of the post-processing
    (133 classes at 2048 x 4096: 4.5 GB), yet a map of classes and the probability of some classes
    at some pixels is all that is needed. Both bilinear steps are linear and separable, so a pixel
    is the weighted sum of at most 3 x 3 cells.

    Args:
        logits (Tensor): ``(C, h, w)``.
        stride (int): Pixels per cell.
        img_shape (tuple[int, int]): Height and width of the image without padding.
        out_shape (tuple[int, int]): Height H and width W of the result.
        align_corners (tuple[bool, bool]): Align corner pixels when enlarging by the stride, and
            when resizing to the result; by default pixel areas are aligned.
    """

    def __init__(
        self,
        logits: Tensor,
        stride: int,
        img_shape: tuple[int, int],
        out_shape: tuple[int, int],
        align_corners: tuple[bool, bool] = (False, False),
    ) -> None:
        self.logits = logits.float()
        self.stride = stride
        self.img_shape = img_shape
        self.out_shape = out_shape
        self.align_corners = align_corners
        self.y, self.x = (
            _make_taps(cells, stride, img, out, align_corners, logits.device)
            for cells, img, out in zip(logits.shape[1:], img_shape, out_shape, strict=True)
        )

    @classmethod
    def of_image(cls, logits: Tensor, stride: int, meta: Mapping[str, Any]) -> ResizedLogits:
        """Enlarge the logits of one image, cut the padding off and resize to the result's size.

        Args:
            logits (Tensor): ``(C, h, w)``.
            stride (int): Pixels per cell.
            meta (Mapping): ``img_shape``, and ``ori_shape`` if the result has another size.

        Returns:
            ResizedLogits: Of size ``(C, H, W)``.
        """
        img_shape = tuple(meta["img_shape"][:2])
        out_shape = tuple(meta.get("ori_shape", img_shape)[:2])
        return cls(logits, stride, img_shape, out_shape)

    def channels(self, index: Tensor) -> ResizedLogits:
        """Restrict the logits to the classes ``index``, int64 ``(M,)``."""
        part = copy(self)
        part.logits = self.logits[index]
        return part

    def dense(self) -> Tensor:
        """Compute all logits ``(C, H, W)`` by the two steps of the definition."""
        enlarge, resize = self.align_corners
        full = upsample_to_image(self.logits[None], self.stride, self.img_shape, enlarge)
        return resize_bilinear(full, self.out_shape, resize)[0]

    def bands(self) -> Iterator[tuple[int, int]]:
        """Cut the result into bands of rows; yield the first row and the one behind the last."""
        height, width = self.out_shape
        pixels = BAND_PIXELS.get(self.logits.device.type, DEFAULT_BAND_PIXELS)
        rows = max(pixels // max(width, 1), 1)
        for top in range(0, height, rows):
            yield top, min(top + rows, height)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Compute the logits of a band: ``(C, bottom - top, W)``."""
        band = Taps(self.y.cell[top:bottom], self.y.weight[top:bottom])
        return _mix(_mix(self.logits, band, 1), self.x, 2)

    def at(self, top: int, bottom: int, pixels: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Compute the logits of single pixels of a band, block by block.

        Args:
            top (int): First row of the band.
            bottom (int): Row behind its last.
            pixels (Tensor): int64 ``(P,)``, positions in the flattened band.

        Yields:
            tuple: The block's place in ``pixels``, and its logits ``(B, C)``.
        """
        if not len(pixels):
            return
        width = self.out_shape[1]
        num_classes, _, cells = self.logits.shape
        first, last = int(self.y.cell[top, 0]), int(self.y.cell[top:bottom].max())
        # One row of the table per cell: what is read together lies together.
        table = self.logits[:, first : last + 1].flatten(1).t().contiguous()
        row_start = ((self.y.cell[top:bottom] - first) * cells).to(torch.int32)
        column_cell = self.x.cell.to(torch.int32)
        row_weight = self.y.weight[top:bottom]
        size = max(CACHE_ELEMENTS // num_classes, 1)
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size].to(torch.int32)
            row = torch.div(part, width, rounding_mode="floor")
            column = part - row * width
            cell = row_start[row][:, :, None] + column_cell[column][:, None, :]
            weight = row_weight[row][:, :, None] * self.x.weight[column][:, None, :]
            values = functional.embedding_bag(
                cell.flatten(1), table, mode="sum", per_sample_weights=weight.flatten(1)
            )
            yield slice(start, start + len(part)), values

    def classes(self, sparse: bool | None = None) -> Tensor:
        """Find the class with the largest logit; of equal ones the first.

        Where all cells of a pixel have the same best class, it is the pixel's: bilinear weights
        are not negative. On CPUs only the other pixels, along the borders of segments, are
        computed.

        Args:
            sparse (bool | None): Do that; by default on CPUs. It needs arrays whose size depends
                on the data, for which a GPU would have to wait.

        Returns:
            Tensor: int64 ``(H, W)``.
        """
        if sparse is None:
            sparse = self.logits.device.type == "cpu"
        result = torch.empty(self.out_shape, dtype=torch.int64, device=self.logits.device)
        best = most_likely_class(self.logits) if sparse else None
        for top, bottom in self.bands():
            if best is None:
                result[top:bottom] = self.rows(top, bottom).argmax(0)
                continue
            band, mixed = self._classes_of_cells(best, top, bottom)
            pixels = mixed.flatten().nonzero()[:, 0]
            chosen = torch.empty_like(pixels)
            for block, values in self.at(top, bottom, pixels):
                torch.argmax(values, 1, out=chosen[block])
            result[top:bottom] = band
            result[top:bottom].view(-1)[pixels] = chosen
        return result

    def maximum(self, needed: Tensor | None = None, sparse: bool | None = None) -> Tensor:
        """Find the largest logit of every pixel.

        Where all cells of a pixel have the same best class, it is the interpolated maximum of the
        cells; see :meth:`classes`.

        Args:
            needed (Tensor | None): bool ``(H, W)``, pixels whose values matter; with ``sparse``
                the others may be too large. All by default.
            sparse (bool | None): Compute all logits of the other pixels only; by default on CPUs.

        Returns:
            Tensor: float32 ``(H, W)``.
        """
        if sparse is None:
            sparse = self.logits.device.type == "cpu"
        result = torch.empty(self.out_shape, device=self.logits.device)
        best = most_likely_class(self.logits) if sparse else None
        peak = self.logits.amax(0, keepdim=True)
        for top, bottom in self.bands():
            if best is None:
                result[top:bottom] = self.rows(top, bottom).amax(0)
                continue
            band = Taps(self.y.cell[top:bottom], self.y.weight[top:bottom])
            result[top:bottom] = _mix(_mix(peak, band, 1), self.x, 2)[0]
            _, mixed = self._classes_of_cells(best, top, bottom)
            if needed is not None:
                mixed &= needed[top:bottom]
            pixels = mixed.flatten().nonzero()[:, 0]
            for block, values in self.at(top, bottom, pixels):
                result[top:bottom].view(-1)[pixels[block]] = values.amax(1)
        return result

    def window(self, channel: int, rows: slice, columns: slice) -> Tensor:
        """Compute one channel inside a window.

        Args:
            channel (int): The channel.
            rows (slice): Rows of the result, with start and stop.
            columns (slice): Columns of the result, with start and stop.

        Returns:
            Tensor: float32 ``(h, w)``.
        """
        y = Taps(self.y.cell[rows], self.y.weight[rows])
        x = Taps(self.x.cell[columns], self.x.weight[columns])
        return _mix(_mix(self.logits[channel][None], y, 1), x, 2)[0]

    def _classes_of_cells(self, best: Tensor, top: int, bottom: int) -> tuple[Tensor, Tensor]:
        """Tell the class of each pixel's first cell, and where another cell disagrees."""
        start, end = int(self.y.cell[top, 0]), int(self.y.cell[top:bottom].max()) + 1
        best = best[start:end].to(torch.int32)
        first_row, *other_rows = self.y.cell[top:bottom].T - start
        first, *others = (best.index_select(1, cell) for cell in self.x.cell.T)
        mixed = torch.zeros_like(first, dtype=torch.bool)
        for other in others:
            mixed |= first != other
        classes = first.index_select(0, first_row)
        disagree = mixed.index_select(0, first_row)
        for row in other_rows:
            disagree |= mixed.index_select(0, row)
            disagree |= classes != first.index_select(0, row)
        return classes, disagree


def _mix(x: Tensor, taps: Taps, dim: int) -> Tensor:
    """Interpolate ``(C, h, w)`` along one axis."""
    shape = [1, 1, 1]
    shape[dim] = -1
    total = x.index_select(dim, taps.cell[:, 0]).mul_(taps.weight[:, 0].view(shape))
    for cell, weight in zip(taps.cell.T[1:], taps.weight.T[1:], strict=True):
        total.addcmul_(x.index_select(dim, cell), weight.view(shape))
    return total


def _make_taps(
    cells: int,
    stride: int,
    img: int,
    out: int,
    align_corners: tuple[bool, bool],
    device: torch.device,
) -> Taps:
    """Chain enlarging by the stride, cropping to ``img`` pixels and resizing to ``out``."""
    pixel, pixel_weight = _linear(img, out, out, align_corners[1], device)
    cell, cell_weight = _linear(cells, cells * stride, img, align_corners[0], device)
    cell = cell.index_select(0, pixel.flatten()).view(out, 4)
    weight = cell_weight.index_select(0, pixel.flatten()).view(out, 2, 2)
    weight = (weight * pixel_weight[:, :, None]).view(out, 4)
    # Neighbouring pixels share cells: of the four at most this many differ.
    distinct = 1 + (stride > 1) + (img != out)
    step = torch.arange(distinct, device=device)
    hit = cell[:, None, :] == cell[:, :1, None] + step[:, None]
    weight = (weight[:, None, :] * hit).sum(2)
    return Taps(torch.where(weight > 0, cell[:, :1] + step, cell[:, :1]), weight)


def _linear(
    source: int, target: int, length: int, align_corners: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tell which two entries each position is interpolated from.

    Args:
        source (int): Number of entries.
        target (int): Number of positions that they are resized to.
        length (int): Number of positions that are wanted, from the first one.
        align_corners (bool): Align the first and the last entry with those of the positions.
        device (torch.device): Of the result.

    Returns:
        tuple[Tensor, Tensor]: int64 entries and float32 weights, both ``(length, 2)``.
    """
    place = torch.arange(length, dtype=torch.float32, device=device)
    if align_corners:
        place = place * ((source - 1) / max(target - 1, 1))
    else:
        place = ((place + 0.5) * (source / target) - 0.5).clamp_(min=0)
    low = place.floor()
    fraction = place - low
    entry = torch.stack([low, low + 1], 1).long().clamp_(max=source - 1)
    return entry, torch.stack([1 - fraction, fraction], 1)


PAD_HANDLING = ("crop", "squash")


def check_pad_handling(pad_handling: str) -> None:
    """Refuse unknown ways.

    Raises:
        ValueError: If it is not one of ``PAD_HANDLING``.
    """
    if pad_handling not in PAD_HANDLING:
        raise ValueError(
            f"pad_handling must be one of {', '.join(PAD_HANDLING)}, got {pad_handling!r}"
        )


def resize_padded_logits(
    logits: Tensor,
    meta: Mapping[str, Any],
    pad_handling: str = "crop",
    stride: int = 4,
    align_corners: bool = True,
) -> ResizedLogits:
    """Bring the logits of ``PanopticFPNSemanticHead`` to the size of the original image.

    Args:
        logits (Tensor): Of one image, ``(C, h, w)``, padding included.
        meta (Mapping): ``img_shape`` (height and width without padding) and ``ori_shape`` (size of
            the result, ``img_shape`` if absent).
        pad_handling (str): "crop" cuts the padding off; "squash" resizes the map with its padding,
            as RAP does.
        stride (int): Pixels per cell.
        align_corners (bool): As in the head.

    Returns:
        ResizedLogits: ``(C, H, W)``.

    Raises:
        ValueError: If ``pad_handling`` is unknown.
    """
    check_pad_handling(pad_handling)
    img_shape = tuple(meta["img_shape"][:2])
    out_shape = tuple(meta.get("ori_shape", img_shape)[:2])
    if pad_handling == "crop":
        return ResizedLogits(logits, stride, img_shape, out_shape, (align_corners, False))
    padded = (logits.shape[-2] * stride, logits.shape[-1] * stride)
    return ResizedLogits(logits, stride, padded, out_shape, (align_corners, align_corners))
