"""Channels and strides of a backbone's feature maps, measured on a small image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import init_default_scope

from mmpanoptic.registry import MODELS, ConfigError

FEATURE_MAPS = ("feature_channels", "feature_strides")
"""Placeholders that stand for a list with one number for each map of ``model.backbone``."""
_HEIGHT, _WIDTH = 128, 192  # unequal, which shows maps that have their channels last


def measure_feature_maps(backbone: Mapping[str, Any]) -> dict[str, list[int]]:
    """Build a backbone without its weights and look at what it makes of an image.

    Args:
        backbone (Mapping): Its config.

    Returns:
        dict: ``feature_channels`` and ``feature_strides``, in the order of the maps.

    Raises:
        ConfigError: If it returns something else than maps ``(N, C, H, W)``.
    """
    settings = {name: value for name, value in backbone.items() if name != "init_cfg"}
    if settings.get("pretrained"):
        settings["pretrained"] = False if settings["pretrained"] is True else None
    init_default_scope("mmpanoptic")
    with torch.random.fork_rng(devices=()), torch.no_grad():
        module = MODELS.build(settings)
        module.eval()  # mmdet's return nothing here
        maps = module(torch.zeros(1, 3, _HEIGHT, _WIDTH))
    if isinstance(maps, torch.Tensor):
        maps = (maps,)
    strides = [round(_HEIGHT / level.shape[2]) if level.dim() == 4 else 0 for level in maps]
    for level, stride in zip(maps, strides, strict=True):
        if not stride or -(-_WIDTH // stride) != level.shape[3]:
            raise ConfigError(
                f"model.backbone ({backbone.get('type')}) makes {tuple(level.shape)} of an image "
                f"(1, 3, {_HEIGHT}, {_WIDTH}); maps must be (N, C, H, W). Transformers that return "
                "channels last need a wrapper; TIMMBackbone is one"
            )
    return dict(zip(FEATURE_MAPS, ([level.shape[1] for level in maps], strides), strict=True))
