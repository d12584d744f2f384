"""Ranking loss over pairs with a known order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class PairwiseRankingLoss(nn.Module):
    """Logistic loss of the difference of two values whose order is known.

    RAP, ranking loss: the mean of ``log(1 + exp(z_first - z_second))`` over all pairs of all
    images, where the first should have the smaller value.

    Differences from the original: one matrix per image instead of a loop over pairs; ``softplus``,
    which neither overflows nor turns to NaN for large gaps.

    Args:
        loss_weight (float): Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, values: Sequence[Tensor], first: Sequence[Tensor]) -> Tensor:
        """Compute the loss in float32.

        Args:
            values (Sequence[Tensor]): ``(P,)`` of each image.
            first (Sequence[Tensor]): bool ``(P, P)`` of each image; entry (i, j): i should have a
                smaller value than j.

        Returns:
            Tensor: Scalar; 0, still connected to ``values``, without pairs.
        """
        device = values[0].device
        total = torch.zeros((), device=device)
        count = torch.zeros((), dtype=torch.int64, device=device)
        with torch.autocast(device.type, enabled=False):
            for one, pairs in zip(values, first, strict=True):
                one = one.float()
                terms = functional.softplus(one[:, None] - one[None, :])
                total = total + torch.where(pairs, terms, 0).sum()
                count = count + pairs.sum()
            return self.loss_weight * total / count.clamp(min=1)
