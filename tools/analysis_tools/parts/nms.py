"""Non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.ops.backends import full_mmcv_installed, pytorch_only
from mmpanoptic.ops.nms import nms
from tests.reference.ops import greedy_nms

COMPILED = full_mmcv_installed()
DESCRIPTION = (
    "NMS of 10 000 boxes around 500 objects, IoU threshold 0.7, in pure PyTorch; "
    "case batched: 80 classes moved apart, as batched_nms does."
)
BASELINE = (
    "the compiled operator of mmcv."
    if COMPILED
    else "the greedy loop, with NumPy for the boxes that are left (no full mmcv is installed)."
)
CASES = {"": {}, "batched": {"classes": 80}}
SIZES = {"default": 10_000, "small": 500}
THRESHOLD = 0.7


def make_inputs(size: str = "default", classes: int = 1) -> dict[str, Any]:
    """Scatter boxes around objects of an image of 1216 x 800 pixels."""
    rng = np.random.default_rng(0)
    count = SIZES[size]
    objects = max(1, count // 20)
    centres = rng.uniform((0, 0), (1216, 800), (objects, 2))
    extents = np.exp(rng.uniform(3, 5.5, (objects, 2)))
    chosen = rng.integers(objects, size=count)
    extent = extents[chosen] * np.exp(rng.normal(0, 0.15, (count, 2)))
    centre = centres[chosen] + rng.normal(0, 0.12, (count, 2)) * extent
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
    boxes += rng.integers(classes, size=(count, 1)) * (boxes.max() + 1)
    scores = rng.permutation(count) / count  # no equal scores: their order is not defined
    return {
        "boxes": torch.from_numpy(boxes.astype(np.float32)),
        "scores": torch.from_numpy(scores.astype(np.float32)),
    }


def baseline(inputs: dict[str, Any]) -> Tensor:
    """Run mmcv's operator, or the loop."""
    if COMPILED:
        from mmcv.ops import nms as compiled_nms

        return compiled_nms(inputs["boxes"], inputs["scores"], THRESHOLD)[1]
    kept = greedy_nms(inputs["boxes"].numpy(), inputs["scores"].numpy(), THRESHOLD, 0)
    return torch.from_numpy(kept)


def ours(inputs: dict[str, Any]) -> Tensor:
    """Run the operator of mmpanoptic, also where others are installed."""
    with pytorch_only():
        return nms(inputs["boxes"], inputs["scores"], iou_threshold=THRESHOLD, offset=0)


def check(expected: Tensor, got: Tensor) -> None:
    """Compare the kept boxes and their order."""
    np.testing.assert_array_equal(got.numpy(), expected.numpy())
