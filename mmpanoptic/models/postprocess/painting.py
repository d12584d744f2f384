"""Paint instances one after the other into one map; a rule decides who gives way.

The map holds for each pixel the instance that owns it. One histogram of the owners under a mask
tells everything that the published overlap tests ask for, so a rule sees K numbers and no pixels.
On a GPU nothing waits for the device between two instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import BoxedMasks

from .segments import FIRST, FREE, count_values

Numbers = Any
"""A few numbers per instance: a NumPy array on CPUs, where its operations cost a quarter of
PyTorch's, and a tensor on the device on GPUs, where nothing may wait. Rules use what both have."""


def few_numbers(values: Tensor) -> Numbers:
    """Bring numbers per instance to where rules want them."""
    return values.numpy() if values.device.type == "cpu" else values


@dataclass
class Painting:
    """Instances painted into a map.

    Attributes:
        owner (Tensor): Integers ``(H, W)``, see ``FREE`` of :mod:`.segments`.
        area (Numbers): float64 ``(K,)``, whole numbers: pixels of each mask; 0 until it is its
            turn.
        visible (Numbers): float64 ``(K,)``, pixels that it owns.
    """

    owner: Tensor
    area: Numbers
    visible: Numbers


class PaintRule(Protocol):
    """Decide which pixels an instance gets."""

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k.

        Args:
            k (int): The instance whose turn it is; ``painting.area[k]`` is known.
            free (Numbers): float64 scalar, free pixels under its mask.
            met (Numbers): float64 ``(K,)``, pixels under its mask by owner.
            painting (Painting): What has been painted so far.

        Returns:
            tuple: Whether it is accepted and takes the free pixels (bool scalar); who gives way
            and loses the pixels under the mask (bool ``(K,)``, of no meaning if it is not
            accepted). Who is not met does not matter.
        """
        ...


def paint_in_order(
    masks: BoxedMasks, rule: PaintRule, order: Sequence[int] | None = None
) -> Painting:
    """Paint instances one after the other.

    Args:
        masks (BoxedMasks): K binary masks.
        rule (PaintRule): Decides about acceptance and pixels.
        order (Sequence[int] | None): Numbers of the instances, first come first; by default that
            of the masks. Instances that are not named are not painted.

    Returns:
        Painting: The map, and what is left of each instance.
    """
    device, count = masks.values.device, len(masks)
    # Owners up to K + 1 must fit; small numbers are faster.
    dtype = next(t for t in (torch.uint8, torch.int16, torch.int32) if count + 1 <= _limit(t))
    owner = torch.full(masks.size, FREE, dtype=dtype, device=device)
    zeros = torch.zeros(2, count, dtype=torch.float64, device=device)
    painting = Painting(owner, few_numbers(zeros[0]), few_numbers(zeros[1]))
    paint = _paint_on_host if device.type == "cpu" else _paint_on_device
    # A division by an area of 0 gives NaN, and comparisons with NaN are false: as wanted.
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(count) if order is None else order:
            mask = masks.crop(k)
            if mask.numel():
                paint(painting, k, mask, owner[masks.slices(k)], rule)
    return painting


def _limit(dtype: torch.dtype) -> int:
    return torch.iinfo(dtype).max


def _count_owners(codes: Tensor, count: int) -> Tensor:
    """Count the free pixels and those of each instance: float64 ``(K + 1,)``."""
    return count_values(codes.flatten(), count + FIRST)[FREE:].double()


def _paint_on_host(
    painting: Painting, k: int, mask: Tensor, window: Tensor, rule: PaintRule
) -> None:
    """Paint instance k in place; what is rejected costs no more than its histogram."""
    codes = window * mask
    counts = _count_owners(codes, len(painting.area)).numpy()
    free, met = counts[0], counts[1:]
    painting.area[k] = counts.sum()
    accepted, gives = rule(k, free, met, painting)
    if not accepted:
        return
    lost = met * gives
    painting.visible -= lost
    painting.visible[k] = free + lost.sum()
    if painting.visible[k] < painting.area[k]:
        mask = _look_up(gives, codes)
    # masked_fill_ is not vectorised; unsigned numbers wrap around and come out right.
    window.add_((k + FIRST - window) * mask)


def _look_up(gives: np.ndarray, codes: Tensor) -> Tensor:
    """Tell where the owner gives way or there is none: 0 or 1 in the shape of ``codes``."""
    table = np.zeros(max(len(gives) + FIRST, 256), np.uint8)
    table[FREE] = 1
    table[FIRST : FIRST + len(gives)] = gives
    if codes.dtype == torch.uint8:
        return torch.from_numpy(cv2.LUT(codes.numpy(), table))  # three times as fast as indexing
    return torch.from_numpy(table[codes.numpy()])


def _paint_on_device(
    painting: Painting, k: int, mask: Tensor, window: Tensor, rule: PaintRule
) -> None:
    """Paint instance k in place without waiting for the device."""
    codes = window * mask
    counts = _count_owners(codes, len(painting.area))
    free, met = counts[0], counts[1:]
    painting.area[k] = counts.sum()
    accepted, gives = rule(k, free, met, painting)
    takes = torch.cat([accepted.new_zeros(FREE), accepted[None], gives & accepted])
    lost = met * takes[FIRST:]
    painting.visible -= lost
    painting.visible[k] = free * accepted + lost.sum()
    window.masked_fill_(takes[codes.long()], k + FIRST)


def release_hidden(painting: Painting, min_visible: float) -> None:
    """Free the pixels of instances of which little is left, in place.

    Args:
        painting (Painting): Finished.
        min_visible (float): Smallest fraction of its mask that an instance must own.
    """
    device = painting.owner.device
    hidden = torch.as_tensor(painting.visible < painting.area * min_visible, device=device)
    table = torch.cat([hidden.new_zeros(FIRST), hidden])
    painting.owner.masked_fill_(table[painting.owner.long()], FREE)
    painting.visible *= few_numbers(~hidden)


@dataclass(frozen=True)
class FirstComeRule:
    """An instance takes what is free, unless too much of it is not.

    Panoptic Segmentation (arXiv:1801.00868), section 5, and Panoptic Feature Pyramid Networks
    (arXiv:1901.02446). What is not free is what the accepted masks cover.

    Attributes:
        overlap_thr (float): An instance is skipped if a larger fraction of it is covered.
    """

    overlap_thr: float

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        area = painting.area[k]
        return (area - free) / area <= self.overlap_thr, met < 0


@dataclass(frozen=True)
class NearestRule:
    """An instance takes what is free and what belongs to instances behind it.

    RAP, panoptic fusion: two checks against duplicates, one against what would be left.

    Attributes:
        values (Numbers): float32 ``(K,)``, relation values; the smaller is nearer. Of equal ones
            who was there first keeps the pixel.
        labels (Numbers): ``(K,)``, classes.
        overlap_thr (float): An instance is skipped if a larger fraction of it is covered by
            instances of its class, or if not more than this fraction of it would be visible.
        large_overlap_thr (float): An instance is skipped if it and one it meets cover each other
            by this fraction or more.
    """

    values: Numbers
    labels: Numbers
    overlap_thr: float
    large_overlap_thr: float

    def passes_duplicates(self, k: int, met: Numbers, painting: Painting) -> Numbers:
        """Check instance k against each that it meets: bool ``(K,)``, False for a duplicate."""
        large = (met / painting.area[k] >= self.large_overlap_thr) & (met > 0)
        return ~(large & (met / painting.visible >= self.large_overlap_thr))

    def passes_class(self, k: int, met: Numbers, painting: Painting) -> Numbers:
        """Check instance k against those of its class: bool scalar."""
        same = (met * (self.labels == self.labels[k])).sum()
        return same / painting.area[k] <= self.overlap_thr

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        behind = self.values > self.values[k]
        left = free + (met * behind).sum()
        accepted = left / painting.area[k] > self.overlap_thr
        accepted &= self.passes_class(k, met, painting)
        accepted &= self.passes_duplicates(k, met, painting).all()
        return accepted, behind


@dataclass(frozen=True)
class OccluderRule:
    """An instance takes what is free, and from those that it occludes what it overlaps.

    OCFusion (arXiv:1906.05896), algorithm 1, as RAP implements it.

    Attributes:
        occludes (Numbers): bool ``(K, K)``; entry (i, j): i lies on j.
        overlap_thr (float): An instance is skipped if not more than this fraction of it would be
            visible; one that meets nothing is not.
        pair_thr (float): A pair is looked at if their overlap is at least this fraction of the
            instance or of what is visible of the other.
    """

    occludes: Numbers
    overlap_thr: float
    pair_thr: float

    def asks(self, k: int, met: Numbers, painting: Painting) -> Numbers:
        """Tell about which of the others the rule asks who lies on whom: bool ``(K,)``."""
        large = met / painting.area[k] >= self.pair_thr
        large |= met / painting.visible >= self.pair_thr
        return large & (met > 0)

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        below = self.asks(k, met, painting) & self.occludes[k]
        left = free + (met * below).sum()
        accepted = left / painting.area[k] > self.overlap_thr
        accepted |= (met == 0).all() & (free > 0)
        return accepted, below
