"""Average the outputs of several augmentations of one image, at the size of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .resized_logits import ResizedLogits

AVERAGES = ("softmax", "logits")


class MeanLogits:
    """The mean of several predictions, with the interface of :class:`ResizedLogits`.

    Args:
        parts (Sequence[ResizedLogits]): Logits of the augmentations, all of one size.
        flips (Sequence[tuple[int, ...]]): Mirrored dimensions of each.
        average (str): "softmax" averages probabilities (and hands out their logarithm, whose
            softmax they are), "logits" averages logits.

    Raises:
        ValueError: If ``average`` is neither.
    """

    def __init__(
        self,
        parts: Sequence[ResizedLogits],
        flips: Sequence[tuple[int, ...]],
        average: str = "softmax",
    ) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
        self.parts = list(parts)
        self.flips = list(flips)
        self.average = average
        self.out_shape = parts[0].out_shape

    def bands(self) -> Iterator[tuple[int, int]]:
        """Cut the result into bands, see :meth:`ResizedLogits.bands`."""
        return self.parts[0].bands()

    def dense(self) -> Tensor:
        """Compute all logits ``(C, H, W)``."""
        return self.rows(0, self.out_shape[0])

    def rows(self, top: int, bottom: int) -> Tensor:
        """Compute the logits of a band, see :meth:`ResizedLogits.rows`."""
        found = []
        for part, flip in zip(self.parts, self.flips, strict=True):
            values = part.rows(*self._band_of(top, bottom, flip))
            found.append(values.flip(flip) if flip else values)
        return self._mean(found, 0)

    def at(self, top: int, bottom: int, pixels: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Compute the logits of single pixels, see :meth:`ResizedLogits.at`."""
        width = self.out_shape[1]
        row = torch.div(pixels, width, rounding_mode="floor")
        column = pixels - row * width
        blocks = []
        for part, flip in zip(self.parts, self.flips, strict=True):
            y = bottom - top - 1 - row if -2 in flip else row
            x = width - 1 - column if -1 in flip else column
            blocks.append(part.at(*self._band_of(top, bottom, flip), y * width + x))
        for found in zip(*blocks, strict=True):
            yield found[0][0], self._mean([values for _, values in found], 1)

    def classes(self, sparse: bool | None = None) -> Tensor:
        """Find the most likely classes, see :meth:`ResizedLogits.classes`."""
        device = self.parts[0].logits.device
        if sparse is None:
            sparse = device.type == "cpu"
        result = torch.empty(self.out_shape, dtype=torch.int64, device=device)
        for top, bottom in self.bands():
            if not sparse:
                result[top:bottom] = self.rows(top, bottom).argmax(0)
                continue
            chosen = result[top:bottom].view(-1)
            for block, values in self.at(top, bottom, torch.arange(len(chosen), device=device)):
                torch.argmax(values, 1, out=chosen[block])
        return result

    def maximum(self, needed: Tensor | None = None) -> Tensor:
        """Find the largest logit of every pixel, see :meth:`ResizedLogits.maximum`."""
        result = torch.empty(self.out_shape, device=self.parts[0].logits.device)
        for top, bottom in self.bands():
            if needed is None or bool(needed[top:bottom].any()):
                result[top:bottom] = self.rows(top, bottom).amax(0)
        return result

    def channels(self, index: Tensor) -> MeanLogits:
        """Restrict the logits to some classes; only logits (no probabilities) can be restricted.

        Raises:
            ValueError: If the mean is one of probabilities.
        """
        if self.average != "logits":
            raise ValueError("MeanLogits: probabilities of some classes need those of all")
        return MeanLogits([part.channels(index) for part in self.parts], self.flips, "logits")

    def window(self, channel: int, rows: slice, columns: slice) -> Tensor:
        """Compute one channel inside a window, see :meth:`ResizedLogits.window`.

        Raises:
            ValueError: If the mean is one of probabilities.
        """
        if self.average != "logits":
            raise ValueError("MeanLogits: the probability of one class needs those of all")
        height, width = self.out_shape
        found = []
        for part, flip in zip(self.parts, self.flips, strict=True):
            y = slice(height - rows.stop, height - rows.start) if -2 in flip else rows
            x = slice(width - columns.stop, width - columns.start) if -1 in flip else columns
            found.append(part.window(channel, y, x).flip(flip))
        return _mean(found)

    def _band_of(self, top: int, bottom: int, flip: tuple[int, ...]) -> tuple[int, int]:
        """Find a band in an augmentation that may be upside down."""
        height = self.out_shape[0]
        return (height - bottom, height - top) if -2 in flip else (top, bottom)

    def _mean(self, found: Sequence[Tensor], dim: int) -> Tensor:
        if self.average == "logits":
            return _mean(found)
        return _mean([values.softmax(dim) for values in found]).log_()


@dataclass
class AveragedOutputs:
    """Means over augmentations, with the interface of ``FullSizeOutputs``.

    Attributes:
        semantic (MeanLogits): Logits.
        parts (Sequence[FullSizeOutputs]): The augmentations, all of one size.
        flips (Sequence[tuple[int, ...]]): Mirrored dimensions of each.
    """

    semantic: MeanLogits
    parts: Sequence[Any]
    flips: Sequence[tuple[int, ...]]

    def __post_init__(self) -> None:
        pairs = zip(self.parts, self.flips, strict=True)
        self.center = _mean([part.center.flip(flip) for part, flip in pairs])

    @property
    def offset(self) -> Tensor:
        """Mean offsets ``(2, H, W)``; a mirrored axis changes their sign, too."""
        total = torch.zeros(2, *self.semantic.out_shape, device=self.center.device)
        for part, flip in zip(self.parts, self.flips, strict=True):
            full = part.offset.flip(flip)
            for dim in flip:
                full[dim].neg_()  # dy is entry -2 and dx entry -1, like their dimensions
            total += full
        return total.div_(len(self.parts))


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total += tensor
    return total.div_(len(tensors))
