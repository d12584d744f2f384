"""Binary cross entropy over the hardest edges of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class HardEdgeMiningLoss(nn.Module):
    """Average the ``top_k`` share of the largest weighted losses of edges.

    COPS (arXiv:2106.03188), section 5. The edges of a whole batch on a device compete; those with
    weight 0 take part with loss 0.

    Args:
        top_k (float): Share of the edges that count, in (0, 1].
        loss_weight (float): Factor of the loss; 0 turns it off.

    Raises:
        ValueError: If ``top_k`` is not in (0, 1].
    """

    def __init__(self, top_k: float = 0.25, loss_weight: float = 0.25) -> None:
        super().__init__()
        if not 0 < top_k <= 1:
            raise ValueError(f"HardEdgeMiningLoss: top_k is a share in (0, 1], got {top_k}")
        self.top_k = top_k
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss in float32.

        Args:
            logits (Tensor): ``(N, h, w)``, positive for a boundary.
            target (Tensor): bool ``(N, h, w)``, the ends belong to different segments.
            weight (Tensor): ``(N, h, w)``.

        Returns:
            Tensor: Scalar.
        """
        with torch.autocast(logits.device.type, enabled=False):
            losses = functional.binary_cross_entropy_with_logits(
                logits.float(), target.float(), weight, reduction="none"
            ).flatten()
            if self.top_k < 1:
                count = max(int(self.top_k * losses.numel()), 1)
                losses = losses.topk(count, sorted=False).values
            return losses.mean() * self.loss_weight
