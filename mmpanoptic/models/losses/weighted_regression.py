"""Regression losses averaged over weighted pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS


class _WeightedPixelLoss(nn.Module):
    """Weighted mean over pixels of a per-pixel distance that is summed over channels.

    Args:
        loss_weight (float): Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def _distance(self, pred: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss in float32.

        Args:
            pred (Tensor): ``(N, C, H, W)``.
            target (Tensor): ``(N, C, H, W)``.
            weight (Tensor): ``(N, 1, H, W)``; the denominator counts it once per pixel.

        Returns:
            Tensor: Scalar; 0, still connected to ``pred``, if all weights are 0.
        """
        with torch.autocast(pred.device.type, enabled=False):
            total = (self._distance(pred.float(), target) * weight).sum()
            norm = weight.sum()
            # Without weights the numerator is 0 as well; a branch would wait for the device.
            return total / torch.where(norm > 0, norm, 1.0) * self.loss_weight


@MODELS.register_module()
class WeightedMSELoss(_WeightedPixelLoss):
    """Squared error, summed over channels, averaged over weighted pixels."""

    def _distance(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(pred, target, reduction="none")


@MODELS.register_module()
class WeightedL1Loss(_WeightedPixelLoss):
    """Absolute error, summed over channels, averaged over weighted pixels."""

    def _distance(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.l1_loss(pred, target, reduction="none")
