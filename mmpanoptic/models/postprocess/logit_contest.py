"""Instances and stuff compete for each pixel with fused logits (EfficientPS)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.structures import BoxedMasks, as_tensor_on

from .augmented import MeanLogits
from .mask_paste import paste_masks
from .resized_logits import ResizedLogits

BLOCK_PIXELS = 1 << 24
"""Pixels of pasted masks that exist at a time."""
MASK_THR = 0.5
"""Probability above which a pixel belongs to an instance's mask."""

Window = tuple[slice, slice]


def fuse_logits(instance: Tensor, semantic: Tensor) -> Tensor:
    """Fuse two logits of a pixel: ``(sigmoid(A) + sigmoid(B)) * (A + B)``.

    EfficientPS (arXiv:2004.02307), section 3.4: amplify where both agree, attenuate where not.

    Args:
        instance (Tensor): A, float ``(h, w)``.
        semantic (Tensor): B, float ``(h, w)``.

    Returns:
        Tensor: ``(h, w)``.
    """
    confidence = instance.sigmoid().add_(semantic.sigmoid())
    return confidence.mul_(instance + semantic)


class LogitContest:
    """State of the contest of one image.

    Args:
        semantic (ResizedLogits | MeanLogits): Logits of all classes at the size of the result.
        best (Tensor): float32 ``(H, W)``, largest logit of the stuff classes; changed in place.
        overlap_thr (float): Instances of whose mask a larger share is taken are dropped.
        scale (float): Factor of the instance logits.
        legacy_zero_outside (bool): See :class:`AdaptiveLogitFusionHead`.

    Attributes:
        winner (Tensor): int32 ``(H, W)``, instance from 1 that wins a pixel; 0 for stuff.
    """

    def __init__(
        self,
        semantic: ResizedLogits | MeanLogits,
        best: Tensor,
        overlap_thr: float,
        scale: float,
        legacy_zero_outside: bool = False,
    ) -> None:
        self.semantic = semantic
        self.best = best
        self.overlap_thr = overlap_thr
        self.scale = scale
        self.legacy_zero_outside = legacy_zero_outside
        self.winner = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
        self.occupied = torch.zeros(best.shape, dtype=torch.bool, device=best.device)
        self.on_host = best.device.type == "cpu"
        self.entered: list[int] = []
        self.accepted: list[Tensor] = []
        if legacy_zero_outside:
            # Rank of the first kept instance that does not cover a pixel.
            self.uncovered = torch.zeros_like(self.winner)
            self.rank = torch.zeros((), dtype=torch.int32, device=best.device)

    def enter(self, k: int, logits: Tensor, window: Window, channel: int, inner: Window) -> None:
        """Let instance k compete; call it in descending order of the scores.

        Args:
            k (int): The instance.
            logits (Tensor): Float ``(h, w)``, its logits inside ``window``.
            window (tuple[slice, slice]): Rows and columns.
            channel (int): Its class among the semantic logits.
            inner (tuple[slice, slice]): Where the semantic logits count; inside ``window``.
        """
        accepted = self._accept(logits, window)
        if self.on_host and not accepted:
            return  # a GPU computes on without effect, so that nobody waits for its answer
        self.entered.append(k)
        self.accepted.append(accepted)
        part = tuple(
            slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, window, strict=True)
        )
        semantic = self.semantic.window(channel, *inner)
        if self.legacy_zero_outside:
            everywhere = torch.zeros_like(logits)
            everywhere[part] = semantic
            fused = fuse_logits(logits * self.scale, everywhere)
            self._cover((fused != 0).logical_and_(accepted), window)
            self.rank = self.rank + accepted
            fused.masked_fill_(fused == 0, -torch.inf)
            inner = window
        else:
            fused = fuse_logits(logits[part] * self.scale, semantic)
        if not self.on_host:
            fused.masked_fill_(~accepted, -torch.inf)
        best = self.best[inner]
        self.winner[inner].masked_fill_(fused > best, k + 1)
        torch.maximum(best, fused, out=best)

    def _accept(self, logits: Tensor, window: Window) -> Tensor:
        """Test the overlap with the masks before, bool ``()``; an empty mask (0 / 0) passes."""
        mask = logits.sigmoid() > MASK_THR
        occupied = self.occupied[window]
        taken = (mask & occupied).sum() / mask.sum()
        accepted = ~(taken > self.overlap_thr)
        if not self.on_host:
            occupied |= mask & accepted
        elif accepted:
            occupied |= mask
        return accepted

    def _cover(self, covered: Tensor, window: Window) -> None:
        uncovered = self.uncovered[window]
        uncovered += covered & (uncovered == self.rank)

    def leak(self) -> None:
        """Give pixels where everything is negative to the first instance that is 0 there."""
        if not self.legacy_zero_outside or not self.entered:
            return
        entered = torch.tensor(self.entered, dtype=torch.int32, device=self.winner.device)
        number = entered[torch.stack(self.accepted)] + 1
        if not len(number):
            return
        leaks = (self.best < 0) & (self.uncovered < len(number))
        rank = self.uncovered.clamp(max=len(number) - 1)
        self.winner = torch.where(leaks, number[rank.long()], self.winner)


def instance_logits(instances: InstanceData, size: tuple[int, int]) -> Iterator[BoxedMasks]:
    """Hand out the logits of instances at the size of the image, a bounded block at a time.

    Args:
        instances (InstanceData): With ``mask_logits``: :class:`BoxedMasks`, or a tensor
            ``(K, m, m)`` of the boxes ``bboxes``.
        size (tuple[int, int]): ``(H, W)`` of the image.

    Yields:
        BoxedMasks: Logits of the next instances.

    Raises:
        ValueError: If the masks are of an image of another size.
    """
    logits = instances.mask_logits
    if isinstance(logits, BoxedMasks):
        if tuple(logits.size) != tuple(size):
            raise ValueError(
                f"mask_logits are of an image of {tuple(logits.size)}, the result has {size}; "
                "masks must have the size of the original image"
            )
        yield logits
        return
    boxes = instances.bboxes
    sides = (boxes[:, 2:] - boxes[:, :2]).abs() + 2
    areas = sides.clamp(max=max(size)).prod(1).tolist()
    start, filled = 0, 0.0
    for stop, area in enumerate([*areas, float("inf")]):
        if stop > start and filled + area > BLOCK_PIXELS:
            yield paste_masks(logits[start:stop], boxes[start:stop], size, threshold=None)
            start, filled = stop, 0.0
        filled += area


def authors_windows(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Round boxes to windows as the authors' code does: both ends shifted by one pixel.

    Args:
        boxes (Tensor): ``(K, 4)``, x0, y0, x1, y1.
        size (tuple[int, int]): ``(H, W)`` of the image.

    Returns:
        Tensor: int64 ``(K, 4)``, x0, y0, x1, y1 with exclusive ends.
    """
    low = (boxes[:, :2] + 1).trunc()
    high = (boxes[:, 2:] - 1).round() + 1
    return _clip(low, high, size)


def center_windows(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Round boxes to the pixels whose centres they contain; see :func:`authors_windows`."""
    low, high = (boxes - 0.5).ceil().split(2, dim=1)
    return _clip(low, high, size)


def _clip(low: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
    limit = as_tensor_on(low, [size[1], size[0]])
    low = torch.minimum(low.clamp(min=0), limit)
    high = torch.minimum(high.clamp(min=0), limit)
    return torch.cat([low, torch.maximum(low, high)], dim=1).long()
