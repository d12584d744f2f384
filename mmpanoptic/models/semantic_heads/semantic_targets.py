"""Semantic targets with a higher weight on small instances."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpanoptic.models.layers import SegmentBatch
from mmpanoptic.structures import IGNORE_LABEL


@torch.no_grad()
def make_semantic_targets(
    segments: SegmentBatch,
    small_instance_area: int = 4096,
    small_instance_weight: float = 3.0,
    ignore_crowd: bool = False,
    small_crowds: bool = True,
) -> tuple[Tensor, Tensor]:
    """Paint classes and pixel weights of a batch.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.3.

    Args:
        segments (SegmentBatch): The ground truth.
        small_instance_area (int): Things with fewer pixels are small; the area is that of the
            augmented, visible mask.
        small_instance_weight (float): Weight of their pixels; all others weigh 1.
        ignore_crowd (bool): Leave the pixels of crowds unlabelled.
        small_crowds (bool): Crowds count as things here, as in Panoptic-DeepLab; not in COPS.

    Returns:
        tuple[Tensor, Tensor]: int64 labels and float32 weights, each ``(N, H, W)``. Padding has
        weight 0.
    """
    label = segments.label
    if ignore_crowd:
        label = label.masked_fill(segments.iscrowd, IGNORE_LABEL)
    small = segments.isthing & (segments.area < small_instance_area)
    if not small_crowds:
        small &= ~segments.iscrowd
    weight = torch.ones(label.shape, device=label.device)
    weights = segments.paint(weight.masked_fill_(small, small_instance_weight))
    for image, (height, width) in zip(weights, segments.img_shapes, strict=True):
        image[height:] = 0
        image[:, width:] = 0
    return segments.paint(label), weights
