"""The network of Panoptic-DeepLab, ready for inference."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mmpanoptic.apis import init_model
from mmpanoptic.apis.inferencer import fuse_for_inference

DESCRIPTION = (
    "Panoptic-DeepLab R-52, one image of 512 x 1024: batch normalisations, ReLUs and sums folded "
    "into convolutions, channels last; "
    "case r18-tiny: the demo's network at 256 x 256."
)
BASELINE = (
    "detectron2's procedure: the same layers as modules of PyTorch, channels first, in evaluation "
    "mode (detectron2 itself is on no package index)."
)
CASES = {
    "r52": {"config": "panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024", "shape": (512, 1024)},
    "r18-tiny": {"config": "panoptic-deeplab_r18-tiny_1xb8-500_shapes", "shape": (256, 256)},
}


def make_inputs(size: str, config: str, shape: tuple[int, int]) -> dict[str, Any]:
    """Draw weights, statistics and an image."""
    torch.manual_seed(0)
    model: Any = init_model(config, None, "cpu")
    model.set_channels_last(False)
    for name, statistics in model.named_buffers():
        if name.endswith("running_mean"):
            statistics.normal_(0, 0.1)
        elif name.endswith("running_var"):
            statistics.uniform_(0.5, 2)
    side = 1 if size == "default" else 8
    image = torch.randn(1, 3, *(length // side for length in shape))
    return {"model": model, "fused": fuse_for_inference(copy.deepcopy(model)), "image": image}


@torch.inference_mode()
def run(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Compute class logits, heatmap and offsets."""
    semantic, instances = model(image, mode="tensor")
    return [semantic, *instances] if isinstance(semantic, Tensor) else [*semantic, *instances]


def baseline(inputs: dict[str, Any]) -> list[Tensor]:
    """Run it as it is."""
    return run(inputs["model"], inputs["image"])


def ours(inputs: dict[str, Any]) -> list[Tensor]:
    """Run it fused."""
    return run(inputs["fused"], inputs["image"])


def check(expected: list[Tensor], got: list[Tensor]) -> None:
    """Compare outputs to 1e-5 of their range."""
    for one, other in zip(expected, got, strict=True):
        difference = float((one - other).abs().max() / one.abs().max())
        if difference > 1e-5:
            raise AssertionError(f"outputs differ by {difference:.1e} of their range")
