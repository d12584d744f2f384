"""Matrix NMS: lower the scores of masks that better masks of their class cover."""

from __future__ import annotations

import torch
from torch import Tensor

KERNELS = ("gaussian", "linear")
BLOCK_PIXELS = 1 << 13
"""Pixels of all masks that are multiplied at once; as floats they are four times the masks."""


def matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: str = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Lower scores by the overlap with better masks of the same class.

    SOLOv2 (arXiv:2003.10152), section 3.5. Differences from the original: masks become floats
    block by block, class by class, and only where the class has masks; identical masks do not
    make the linear kernel divide 0 by 0.

    Args:
        masks (Tensor): bool ``(K, P)``, flattened masks in descending order of their scores.
        labels (Tensor): ``(K,)``.
        scores (Tensor): float ``(K,)``.
        kernel (str): "gaussian" or "linear".
        sigma (float): Of the Gaussian: the decay is ``exp(-sigma * IoU ** 2)``.

    Returns:
        Tensor: ``(K,)``, the lowered scores in the order of the input.

    Raises:
        ValueError: If the kernel is unknown.
    """
    if kernel not in KERNELS:
        raise ValueError(f"matrix_nms: kernel must be one of {KERNELS}, got {kernel!r}")
    if not len(masks):
        return scores
    lowered = scores.clone()
    for label in labels.unique().tolist():
        own = (labels == label).nonzero()[:, 0]
        iou = mask_iou(masks.index_select(0, own)).triu(diagonal=1)
        lowered[own] *= _decay(iou, kernel, sigma).amin(0)
    return lowered


def _decay(iou: Tensor, kernel: str, sigma: float) -> Tensor:
    """Tell how much each mask (row) lowers each worse one (column), given their IoU ``(K, K)``."""
    # How much a better mask is covered itself weakens what it does to others.
    covered = iou.amax(0)[:, None]
    if kernel == "linear":
        # 0 / 0 comes from copies of copies, which the first of them lowers anyway.
        return ((1 - iou) / (1 - covered)).nan_to_num_(nan=1.0)
    return torch.exp(-sigma * iou.square()) / torch.exp(-sigma * covered.square())


def mask_iou(masks: Tensor) -> Tensor:
    """Compute the IoU of all pairs of masks.

    Args:
        masks (Tensor): bool ``(K, P)``.

    Returns:
        Tensor: float32 ``(K, K)``; 0 where both masks are empty.
    """
    count = len(masks)
    inter = torch.zeros(count, count, device=masks.device)
    masks = masks.index_select(1, masks.any(0).nonzero()[:, 0])
    with torch.autocast(masks.device.type, enabled=False):
        for block in masks.split(BLOCK_PIXELS, dim=1):
            part = block.float()
            inter.addmm_(part, part.t())
    area = inter.diagonal()
    return inter / (area[:, None] + area - inter).clamp_(min=1)
