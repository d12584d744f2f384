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

from .centers import block_elements
from .counting import count_values

FREE = 1
"""Owner of the pixels that no instance has; instance k is owner k + 2, and 0 is never used.

So ``owner * mask`` has 0 outside of the mask and distinct numbers inside.
"""
FIRST = 2


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
        owner (Tensor): Integers ``(H, W)``, see :data:`FREE`.
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


def number_segments(
    painting: Painting, order: Sequence[int], semantic: Tensor, is_stuff: Tensor, stuff_area: int
) -> tuple[Tensor, Tensor]:
    """Fill the free pixels with stuff and number the segments.

    Args:
        painting (Painting): Finished.
        order (Sequence[int]): The order in which the instances were painted.
        semantic (Tensor): Integers ``(H, W)``, channel of each pixel.
        is_stuff (Tensor): bool ``(C,)``, channels that become segments; the last entry is that of
            all further channels, too.
        stuff_area (int): Stuff with fewer free pixels becomes void.

    Returns:
        tuple: int32 map ``(H, W)``, 0 is void, and int32 ``(K + C,)``, the number of the segment
        of each instance and channel, 0 if there is none. Instances come first, in the order of
        painting, then stuff by channel.
    """
    count, channels = len(painting.visible), len(is_stuff)
    owner, semantic = painting.owner.flatten(), semantic.flatten()
    device = owner.device
    size = block_elements(device)
    code = torch.empty(owner.shape, dtype=torch.int32, device=device)
    total = torch.zeros(count + FIRST + channels, dtype=torch.int64, device=device)
    for out, have, want in zip(*(x.split(size) for x in (code, owner, semantic)), strict=True):
        out.copy_(want).clamp_(max=channels - 1).add_(count + FIRST)
        torch.where(have == FREE, out, have.to(torch.int32), out=out)
        total += count_values(out, len(total))
    stuff = is_stuff & (total[count + FIRST :] >= max(stuff_area, 1))
    rank = torch.tensor(order, dtype=torch.int64, device=device)
    present = torch.as_tensor(painting.visible, device=device)[rank] > 0
    running = torch.cat([present, stuff]).cumsum(0, dtype=torch.int32)
    number = torch.zeros(count + channels, dtype=torch.int32, device=device)
    number[rank] = running[: len(rank)] * present
    number[count:] = running[len(rank) :] * stuff
    table = torch.cat([number.new_zeros(FIRST), number])
    index_map = torch.empty_like(code)
    for out, part in zip(index_map.split(size), code.split(size), strict=True):
        torch.index_select(table, 0, part, out=out)
    return index_map.view(painting.owner.shape), number
