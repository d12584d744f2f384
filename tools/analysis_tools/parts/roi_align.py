"""RoIAlign."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmpanoptic.ops.backends import full_mmcv_installed, pytorch_only
from mmpanoptic.ops.roi_align import roi_align_backward, roi_align_forward
from tests.reference import ops as reference

COMPILED = full_mmcv_installed()
DESCRIPTION = (
    "RoIAlign 1000 x 256 x 7 x 7 on a map of 200 x 304 in pure PyTorch, a sample per pixel; "
    "case two_samples: sampling_ratio 2; case backward: with the gradient."
)
BASELINE = (
    "the compiled operator of mmcv."
    if COMPILED
    else "RoI by RoI, the bilinear samples of each at once (no full mmcv is installed)."
)
CASES = {"": {}, "two_samples": {"ratio": 2}, "backward": {"backward": True}}
SIZES = {"default": (1000, 256, 200, 304), "small": (20, 8, 25, 38)}
BINS, SCALE = 7, 0.25


def make_inputs(size: str = "default", ratio: int = 0, backward: bool = False) -> dict[str, Any]:
    """Draw features and boxes of 20 to 245 pixels, clipped to the image, as proposals are."""
    count, channels, height, width = SIZES[size]
    generator = torch.Generator().manual_seed(0)
    image = torch.tensor([width, height]) / SCALE
    centres = torch.rand(count, 2, generator=generator) * image
    extents = torch.exp(torch.rand(count, 2, generator=generator) * 2.5 + 3)
    corners = [
        torch.minimum(c.clamp(min=0), image) for c in (centres - extents / 2, centres + extents / 2)
    ]
    return {
        "features": torch.randn(1, channels, height, width, generator=generator),
        "rois": torch.cat([torch.zeros(count, 1), *corners], 1),
        "grad": torch.randn(count, channels, BINS, BINS, generator=generator),
        "ratio": ratio,
        "backward": backward,
    }


def baseline(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Run mmcv's operator, or the plain procedure."""
    features, rois, grad = inputs["features"], inputs["rois"], inputs["grad"]
    if not COMPILED:
        plain = reference.RoIAlign(BINS, SCALE, inputs["ratio"], aligned=True)
        output = plain.forward(features, rois)
        if not inputs["backward"]:
            return {"output": output}
        return {"grad": plain.backward(grad, features.shape, rois)}
    from mmcv.ops import roi_align

    features = features.detach().requires_grad_(inputs["backward"])
    output = roi_align(features, rois, BINS, SCALE, inputs["ratio"], "avg", True)
    if not inputs["backward"]:
        return {"output": output}
    return {"grad": torch.autograd.grad(output, features, grad)[0]}


def ours(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Run the operators of mmpanoptic, also where others are installed."""
    features, rois, grad = inputs["features"], inputs["rois"], inputs["grad"]
    geometry = {
        "aligned_height": BINS,
        "aligned_width": BINS,
        "spatial_scale": SCALE,
        "sampling_ratio": inputs["ratio"],
        "pool_mode": 1,
        "aligned": True,
    }
    nothing = features.new_zeros(0)
    with pytorch_only():
        output = torch.empty_like(grad)
        roi_align_forward(features, rois, output, nothing, nothing, **geometry)
        if not inputs["backward"]:
            return {"output": output}
        grad_features = torch.zeros_like(features)
        roi_align_backward(grad, rois, nothing, nothing, grad_features, **geometry)
    return {"grad": grad_features}


def check(expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    """Compare within the rounding of float32."""
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value.detach(), rtol=1e-5, atol=2e-5)
