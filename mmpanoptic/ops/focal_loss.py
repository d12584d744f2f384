"""Focal losses forward and backward, as called by ``mmcv.ops.sigmoid_focal_loss`` and its sibling.

Both follow RetinaNet (arXiv 1708.02002), equation 5. With class weights, the loss of a sample is
multiplied by the weight of its target class.
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


def _chosen(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the probability (N,) of each target class, 0 for targets that are no class."""
    classes = probabilities.size(1)
    chosen = probabilities.gather(1, target.clamp(0, classes - 1)[:, None]).squeeze(1)
    return torch.where((target >= 0) & (target < classes), chosen, 0.0)


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


@in_full_precision
def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute what ``mmcv._ext.softmax_focal_loss_forward`` computes.

    Args:
        input: (N, C) softmax probabilities.
        target: (N,) int64; negative ones are ignored and have no loss.
        weight: (C,) class weights, or empty.
        output: (N,), overwritten with the losses.
        gamma: Exponent of the modulating factor.
        alpha: Factor of the loss.
    """
    p = _chosen(input.to(compute_dtype(input)), target)
    loss = torch.where(target < 0, 0.0, -alpha * (1 - p).pow(gamma) * _safe_log(p))
    factor = _target_weight(weight, target, loss.dtype)
    output.copy_(loss if factor is None else loss * factor)


@in_full_precision
def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Compute what ``mmcv._ext.softmax_focal_loss_backward`` computes.

    Args:
        input: (N, C) softmax probabilities.
        target: (N,) int64, as in the forward pass.
        weight: (C,) class weights, or empty.
        buff: (N,), overwritten with the derivatives with respect to the target's logit, over 1 - p.
        grad_input: (N, C), overwritten with the derivatives with respect to the logits.
        gamma: Exponent of the modulating factor.
        alpha: Factor of the loss.
    """
    probabilities = input.to(compute_dtype(input))
    p = _chosen(probabilities, target)
    q = 1 - p
    slope = alpha * (gamma * q.pow(gamma - 1) * p * _safe_log(p) - q.pow(gamma))
    slope = torch.where(target < 0, 0.0, slope)
    factor = _target_weight(weight, target, slope.dtype)
    if factor is not None:
        slope = slope * factor
    buff.copy_(slope)
    is_target = _positives(target, input.size(1)).to(slope.dtype)
    grad_input.copy_(slope[:, None] * (is_target - probabilities))
