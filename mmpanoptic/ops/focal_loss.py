"""Focal loss forward and backward, as called by ``mmcv.ops.sigmoid_focal_loss``.

RetinaNet (arXiv 1708.02002), equation 5. With class weights, the loss of a sample is multiplied by
the weight of its target class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import compute_dtype, in_full_precision


def _safe_log(probability: Tensor) -> Tensor:
    # Clamped at the smallest float32 in every precision: with it the logarithm stays finite.
    return probability.clamp(min=torch.finfo(torch.float32).tiny).log()


def _target_weight(weight: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return the class weight of every target (N,), 1 for targets that are no class."""
    if weight.numel() == 0:
        return None
    is_class = (target >= 0) & (target < weight.numel())
    chosen = weight.to(dtype)[target.clamp(0, weight.numel() - 1)]
    return torch.where(is_class, chosen, 1.0)


def _positives(target: Tensor, classes: int) -> Tensor:
    return target[:, None] == torch.arange(classes, device=target.device)


@in_full_precision
def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute what ``mmcv._ext.sigmoid_focal_loss_forward`` computes.

    Differences from the original: a target that is no class (the background) has weight 1 where
    class weights are given; there its weight is read from behind the array.

    Args:
        input: (N, C) logits.
        target: (N,) int64; every other number than 0 ... C - 1 is background.
        weight: (C,) class weights, or empty.
        output: (N, C), overwritten with the losses.
        gamma: Exponent of the modulating factor.
        alpha: Weight of the positives; that of the negatives is ``1 - alpha``.
    """
    logits = input.to(compute_dtype(input))
    p, q = logits.sigmoid(), 1 - logits.sigmoid()
    positive = alpha * q.pow(gamma) * _safe_log(p)
    negative = (1 - alpha) * p.pow(gamma) * _safe_log(q)
    loss = -torch.where(_positives(target, input.size(1)), positive, negative)
    factor = _target_weight(weight, target, loss.dtype)
    output.copy_(loss if factor is None else loss * factor[:, None])


@in_full_precision
def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute what ``mmcv._ext.sigmoid_focal_loss_backward`` computes.

    Args:
        input: (N, C) logits.
        target: (N,) int64, as in the forward pass.
        weight: (C,) class weights, or empty.
        grad_input: (N, C), overwritten with the derivatives of the losses.
        gamma: Exponent of the modulating factor.
        alpha: Weight of the positives.
    """
    logits = input.to(compute_dtype(input))
    p, q = logits.sigmoid(), 1 - logits.sigmoid()
    positive = alpha * q.pow(gamma) * (q - gamma * p * _safe_log(p))
    negative = (1 - alpha) * p.pow(gamma) * (gamma * q * _safe_log(q) - p)
    grad = -torch.where(_positives(target, input.size(1)), positive, negative)
    factor = _target_weight(weight, target, grad.dtype)
    grad_input.copy_(grad if factor is None else grad * factor[:, None])
