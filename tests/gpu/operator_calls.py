"""Calls of the operators that torchvision may compute, at the sizes of a two-stage model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


def operator_calls(
    device: str, boxes: int = 2000, side: int = 64
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield names of ``mmcv._ext`` and calls that return float tensors.

    Args:
        device (str): Where they run.
        boxes (int): Number of boxes.
        side (int): Of the feature maps.
    """
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d, nms, roi_align

    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Any:
        return torch.rand(shape, generator=generator).to(device)

    corners = random(boxes, 2) * side * 8
    found = torch.cat([corners, corners + random(boxes, 2) * 80 + 1], 1)
    scores, features = random(boxes), random(1, 64, side, side)
    rois = torch.cat([torch.zeros_like(found[:, :1]), found], 1)
    offset, weight = random(1, 18, side, side) * 4 - 2, random(64, 64, 3, 3)
    mask = random(1, 9, side, side)
    yield "nms", lambda: nms(found, scores, 0.5)
    yield "roi_align_forward", lambda: roi_align(features, rois, 7, 1 / 8, 2, "avg", True)
    yield "deform_conv_forward", lambda: deform_conv2d(features, offset, weight, 1, 1)
    yield (
        "modulated_deform_conv_forward",
        lambda: modulated_deform_conv2d(features, offset, mask, weight, None, 1, 1),
    )
