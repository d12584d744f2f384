"""Masks that are stored only where they can be set: inside a window each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .panoptic import as_tensor_on


@dataclass(frozen=True)
class BoxedMasks:
    """K masks of one image, each stored inside an integer window only.

    A hundred masks of a large image fill gigabytes as floats and still a hundred megabytes as
    booleans, nearly all of it background. Here the memory is the sum of the windows. Outside its
    window a mask is False (or 0).

    Attributes:
        windows (Tensor): int64 ``(K, 4)``: x0, y0, x1, y1 in pixels, the end exclusive, inside
            the image.
        values (Tensor): ``(P,)``, bool or float; the windows' pixels row by row, one mask after
            the other.
        size (tuple[int, int]): ``(H, W)`` of the image.
        known (Sequence | None): The windows as numbers, where the host has them already.

    Raises:
        ValueError: If the windows leave the image or do not hold as many pixels as there are
            values.
    """

    windows: Tensor
    values: Tensor
    size: tuple[int, int]
    known: Sequence[Sequence[int]] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        height, width = self.size
        for x0, y0, x1, y1 in self.host_windows:
            if not (0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height):
                raise ValueError(
                    f"BoxedMasks: the window {(x0, y0, x1, y1)} is not inside an image of "
                    f"{height} x {width} pixels; windows are x0, y0, x1, y1, clipped to the image"
                )
        if self.host_offsets[-1] != len(self.values):
            raise ValueError(
                f"BoxedMasks: the windows hold {self.host_offsets[-1]} pixels, but there are "
                f"{len(self.values)} values"
            )

    @cached_property
    def host_windows(self) -> list[tuple[int, int, int, int]]:
        """The windows as numbers; a GPU is waited for once, if they are not known."""
        numbers = self.windows.tolist() if self.known is None else self.known
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in numbers]

    @cached_property
    def host_offsets(self) -> list[int]:
        """Where each mask starts in ``values``, and the end of the last one: ``K + 1`` numbers."""
        offsets = [0]
        for x0, y0, x1, y1 in self.host_windows:
            offsets.append(offsets[-1] + (x1 - x0) * (y1 - y0))
        return offsets

    @property
    def offsets(self) -> Tensor:
        """The same as a tensor: int64 ``(K + 1,)``."""
        return as_tensor_on(self.windows, self.host_offsets)

    def __len__(self) -> int:
        return len(self.windows)

    def crop(self, k: int) -> Tensor:
        """Return mask k inside its window: a view ``(h, w)``, maybe empty."""
        x0, y0, x1, y1 = self.host_windows[k]
        start, end = self.host_offsets[k], self.host_offsets[k + 1]
        return self.values[start:end].view(y1 - y0, x1 - x0)

    def slices(self, k: int) -> tuple[slice, slice]:
        """Return the rows and columns of window k, to index a map ``(H, W)`` with."""
        x0, y0, x1, y1 = self.host_windows[k]
        return slice(y0, y1), slice(x0, x1)

    def areas(self) -> Tensor:
        """Count the pixels that are set (not 0): int64 ``(K,)``."""
        if not len(self):
            return torch.zeros(0, dtype=torch.int64, device=self.values.device)
        return torch.stack([self.crop(k).count_nonzero() for k in range(len(self))])

    def above(self, threshold: float) -> BoxedMasks:
        """Return the binary masks of the values above a threshold."""
        return BoxedMasks(self.windows, self.values > threshold, self.size, self.host_windows)

    def select(self, index: Sequence[int]) -> BoxedMasks:
        """Return some of the masks, in the order of ``index``."""
        index = list(index)
        parts = [self.crop(k).flatten() for k in index]
        values = torch.cat(parts) if parts else self.values[:0]
        known = [self.host_windows[k] for k in index]
        windows = as_tensor_on(self.windows, known).view(-1, 4)
        return BoxedMasks(windows, values, self.size, known)

    def to_full(self) -> Tensor:
        """Return the masks at the size of the image: ``(K, H, W)``, the type of ``values``."""
        full = self.values.new_zeros((len(self), *self.size))
        for k in range(len(self)):
            full[(k, *self.slices(k))] = self.crop(k)
        return full

    @classmethod
    def from_full(cls, masks: Tensor) -> BoxedMasks:
        """Cut masks to their windows.

        Args:
            masks (Tensor): ``(K, H, W)``, bool or float; what is not 0 belongs to the mask.

        Returns:
            BoxedMasks: With the tightest windows; a mask without pixels has an empty one.
        """
        size = (int(masks.shape[1]), int(masks.shape[2]))
        set_pixels = masks != 0
        y0, y1 = _extent(set_pixels.any(2))
        x0, x1 = _extent(set_pixels.any(1))
        windows = torch.stack([x0, y0, x1, y1], 1)
        known = windows.tolist()
        parts = [
            mask[top:bottom, left:right].flatten()
            for mask, (left, top, right, bottom) in zip(masks, known, strict=True)
        ]
        values = torch.cat(parts) if parts else masks.new_zeros(0)
        return cls(windows, values, size, known)


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first used place and the one behind the last in rows ``(K, L)``; 0, 0 if none."""
    length = used.shape[1]
    if not length:
        empty = torch.zeros(len(used), dtype=torch.int64, device=used.device)
        return empty, empty
    numbers = used.to(torch.uint8)
    some = numbers.amax(1) > 0
    first = numbers.argmax(1)
    last = length - numbers.flip(1).argmax(1)
    return first * some, last * some
