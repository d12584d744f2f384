"""From class logits to classes."""

from __future__ import annotations

import torch
from torch import Tensor

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
