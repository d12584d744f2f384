"""Histograms and grouped sums, with or without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

STRIPES = 32
"""Copies of the totals on a GPU: neighbouring threads would otherwise wait for one address."""


def count_values(values: Tensor, num_values: int) -> Tensor:
    """Count how often each of ``0 .. num_values - 1`` occurs.

    ``torch.bincount`` is fast on CPUs, but on a GPU the host waits for the largest value.

    Args:
        values (Tensor): Integers ``(P,)``.
        num_values (int): Number of different values.

    Returns:
        Tensor: int64 ``(num_values,)``.
    """
    if values.device.type == "cpu":
        return torch.bincount(values, minlength=num_values)
    return add_striped(values, torch.ones_like(values, dtype=torch.int32), num_values)


def sum_values(values: Tensor, owner: Tensor, num_owners: int) -> Tensor:
    """Add up values by owner.

    Args:
        values (Tensor): ``(P,)``.
        owner (Tensor): Integers ``(P,)`` below ``num_owners``.
        num_owners (int): Number of owners.

    Returns:
        Tensor: ``(num_owners,)``, the type of ``values``.
    """
    if values.device.type == "cpu":
        return values.new_zeros(num_owners).index_add_(0, owner, values)
    return add_striped(owner, values, num_owners)


def add_striped(index: Tensor, values: Tensor, length: int) -> Tensor:
    """Add values ``(P,)`` to the places ``index`` of one of several totals, then add these up.

    Args:
        index (Tensor): Integers ``(P,)`` below ``length``.
        values (Tensor): ``(P,)``.
        length (int): Length of the result.

    Returns:
        Tensor: ``(length,)``; int64 if the values are integers.
    """
    stripes = max(min(STRIPES, (1 << 23) // max(length, 1)), 1)
    stripe = torch.arange(len(index), device=index.device) % stripes
    total = torch.zeros(stripes * length, dtype=values.dtype, device=values.device)
    total.index_add_(0, stripe.mul_(length).add_(index), values)
    return total.view(stripes, length).sum(0)
