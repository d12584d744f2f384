"""A smooth surrogate of panoptic quality."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .segment_matching import IOU_SMOOTHING

SHARPNESS = 4
"""Exponent of the soft threshold at an intersection over union of 1/2."""

QUALITY_SMOOTHING = 0.1
"""Added to numerator and denominator of a class's quality."""


class SoftQuality(NamedTuple):
    """The surrogate and what it is made of.

    Attributes:
        loss (Tensor): Scalar, 1 minus the mean quality of the classes.
        iou (Tensor): ``(N, P)``, soft intersection over union of each channel.
    """

    loss: Tensor
    iou: Tensor


def panoptic_quality_loss(
    masks: Tensor,
    truth: Tensor,
    weight: Tensor,
    label: Tensor,
    foreground: Tensor,
    num_classes: int,
) -> SoftQuality:
    """Compute the surrogate of a batch, differentiable in masks and foreground.

    COPS (arXiv:2106.03188), section 5. Classes are those of any channel of the batch; a class
    whose denominator vanishes before smoothing is left out.

    Differences from the original: without classes the loss is 0, not NaN; it is computed where
    the masks are, not on the CPU.

    Args:
        masks (Tensor): ``(N, P, h, w)``, predicted masks.
        truth (Tensor): bool ``(N, P, h, w)``, the matched ground truth.
        weight (Tensor): ``(N, h, w)``, weights of the cells.
        label (Tensor): int64 ``(N, P)``, class of each channel; -1 for padding.
        foreground (Tensor): ``(N, P)``, foreground probability of each channel.
        num_classes (int): Number of classes.

    Returns:
        SoftQuality: Loss and overlaps.
    """
    truth_mask = truth.to(masks.dtype)
    weight = weight[:, None]
    common = (weight * masks * truth_mask).sum((2, 3))
    union = (weight * (masks + truth_mask - masks * truth_mask)).sum((2, 3))
    iou = (common + IOU_SMOOTHING) / (union + IOU_SMOOTHING)
    above, below = iou**SHARPNESS, (1 - iou) ** SHARPNESS
    hit = above / (above + below)
    real = truth.flatten(2).any(2).to(masks.dtype)
    terms = torch.stack(
        [
            hit * foreground * real * iou,
            hit * foreground * real + 0.5 * (1 - hit) * real
            + 0.5 * (1 - real) * (1 - hit) * foreground,
            torch.ones_like(iou),
        ],
        dim=-1,
    )  # fmt: skip
    # Padding goes to a class of its own, which is cut off.
    owner = torch.where(label < 0, num_classes, label).flatten()
    totals = terms.new_zeros(num_classes + 1, 3).index_add(0, owner, terms.flatten(0, 1))
    numerator, denominator, channels = totals[:num_classes].unbind(1)
    counted = (channels > 0) & (denominator > 0)
    quality = (numerator + QUALITY_SMOOTHING) / (denominator + QUALITY_SMOOTHING)
    number = counted.sum()
    mean = torch.where(counted, quality, 0).sum() / number.clamp(min=1)
    return SoftQuality((number > 0) * (1 - mean), iou)
