"""A training step of Panoptic-DeepLab."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mmpanoptic.apis import get_config
from mmpanoptic.apis.speed import make_batch, make_table
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS

DESCRIPTION = (
    "forward, losses, backward and a step of Adam, float32: R-52, two images of 256x512; case "
    "r18-tiny: the demo's network, eight images of 128x192."
)
BASELINE = (
    "detectron2's procedure: the same layers and losses as modules of PyTorch, channels first, Adam "
    "parameter by parameter (detectron2 itself is on no package index)."
)
CASES = {
    "r52": {
        "config": "panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024",
        "batch": (2, 256, 512),
    },
    "r18-tiny": {
        "config": "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
        "batch": (8, 128, 192),
    },
}


def make_inputs(size: str, config: str, batch: tuple[int, int, int]) -> dict[str, Any]:
    """Draw weights and a batch; without dropout, whose draws follow the order in memory."""
    torch.manual_seed(0)
    cfg = resolve_config(get_config(config), dataset_meta=make_table().to_metainfo())
    plain: Any = MODELS.build({**cfg.model, "channels_last": False}).train()
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ours = copy.deepcopy(plain)
    ours.set_channels_last(cfg.model.channels_last)
    images, *shape = batch
    shape = [length // (1 if size == "default" else 4) for length in shape]
    data = plain.data_preprocessor(make_batch(cfg, images, *shape), training=True)
    # A rate of 0 leaves the weights, so that each step can be compared.
    models = {"baseline": plain, "ours": ours}
    adams = {k: torch.optim.Adam(m.parameters(), 0.0, foreach=False) for k, m in models.items()}
    return {"models": models, "adams": adams, "data": data}


def step(inputs: dict[str, Any], who: str) -> dict[str, Tensor]:
    """Make a step; return losses and the norm of the gradients of each part of the model."""
    model, adam = inputs["models"][who], inputs["adams"][who]
    losses = model(**inputs["data"], mode="loss")
    adam.zero_grad()
    model.parse_losses(losses)[0].backward()
    adam.step()
    return {name: loss.detach() for name, loss in losses.items()} | {
        name: nn.utils.get_total_norm([p.grad for p in part.parameters()])
        for name, part in model.named_children()
        if any(True for _ in part.parameters())
    }


def baseline(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Make it as detectron2 does."""
    return step(inputs, "baseline")


def ours(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Make it as the config says."""
    return step(inputs, "ours")


def check(expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    """Compare to what rounding moves in batch statistics of fresh weights."""
    torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-4)
