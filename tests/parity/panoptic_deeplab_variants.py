"""Configs of the published Panoptic-DeepLab and DeepLabV3+ variants of the golden files."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import torch

from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap
from mmpanoptic.registry import MODELS
from tests.data.golden.panoptic_deeplab import crafted_inputs, synthetic_checkpoint
from tests.golden import layout_file

SYSTEM = "panoptic_deeplab"
CITYSCAPES_THINGS = crafted_inputs.CITYSCAPES_THINGS
BACKBONES = {
    "r52": {
        "type": "DeepLabResNet",
        "depth": 50,
        "stem_channels": 128,
        "strides": (1, 2, 2, 1),
        "dilations": (1, 1, 1, 2),
        "multi_grid": (2, 4, 8),
        "out_indices": (0, 1, 3),
    },
    "x65": {"type": "Xception", "out_indices": (0, 1, 3)},
    "h48": {"type": "HRNet", "width": 48},
}
LEVELS = {
    "r52": {
        "in_channels": (256, 512, 2048),
        "in_strides": (4, 8, 16),
        "project_channels": (32, 64),
    },
    "x65": {
        "in_channels": (256, 728, 2048),
        "in_strides": (4, 8, 16),
        "project_channels": (32, 64),
    },
    "h48": {
        "in_channels": (48, 96, 192, 384),
        "in_strides": (4, 8, 16, 32),
        "project_channels": (32, 64, 128),
        "aspp_dilations": (3, 6, 9),
    },
}


def panoptic_config(backbone: str, separable: bool, crop, num_classes: int = 19) -> dict:
    """Config of a published Panoptic-DeepLab model, in the size of the golden crops."""
    levels = {
        **LEVELS[backbone],
        "separable": separable,
        "pool_crop_size": crop,
        "aspp_dropout": 0.0,
    }
    return {
        "type": "PanopticSegmentor",
        "backbone": BACKBONES[backbone],
        "semantic_head": {"type": "DeepLabHead", "num_classes": num_classes, **levels},
        "instance_head": {"type": "CenterOffsetHead", **levels},
        "fusion_head": {
            "type": "CenterGroupingHead",
            "num_classes": num_classes,
            "thing_labels": CITYSCAPES_THINGS,
        },
    }


def semantic_config(backbone: str, crop, num_classes: int = 19) -> dict:
    """Config of a published DeepLabV3+ model: other levels and widths, no instance branch."""
    levels = dict(LEVELS[backbone], project_channels=(48, 96, 192))
    body = BACKBONES[backbone]
    if backbone == "x65":
        levels = {"in_channels": (256, 2048), "in_strides": (4, 16), "project_channels": (48,)}
        body = dict(body, out_indices=(0, 3))
    return {
        "type": "PanopticSegmentor",
        "backbone": body,
        "semantic_head": {
            "type": "DeepLabHead",
            "num_classes": num_classes,
            "head_channels": None,
            "small_instance_area": 0,
            "pool_crop_size": crop,
            "aspp_dropout": 0.0,
            **levels,
        },
        "fusion_head": {
            "type": "SemanticOnlyHead",
            "num_classes": num_classes,
            "thing_labels": CITYSCAPES_THINGS,
        },
    }


# A golden file of a variant that is not listed fails.
VARIANTS = {
    **{
        f"{backbone}_{flavour}": partial(panoptic_config, backbone, flavour == "dsconv")
        for backbone in BACKBONES
        for flavour in ("conv", "dsconv")
    },
    "deeplabv3plus_x65": partial(semantic_config, "x65"),
    "deeplabv3plus_h48": partial(semantic_config, "h48"),
}
FEATURES = {
    name: ("res2", "res3", "res4", "res5")
    if "h48" in name
    else ("res2", "res5")
    if name == "deeplabv3plus_x65"
    else ("res2", "res3", "res5")
    for name in VARIANTS
}


def build(variant: str, crop) -> tuple:
    manifest = json.loads(layout_file(SYSTEM, f"manifest_{variant}.json").read_text())
    model = MODELS.build(VARIANTS[variant](None if crop is None else tuple(map(int, crop))))
    key_map = PanopticDeepLabKeyMap(model)
    weights = synthetic_checkpoint.synthetic_state_dict(manifest)
    state = {name: torch.from_numpy(value) for name, value in key_map.to_ours(weights).items()}
    model.load_state_dict(state, strict=True)
    return model, key_map


def images(data: dict, seeds, size) -> torch.Tensor:
    batch = np.stack([synthetic_checkpoint.synthetic_image(seed, *size) for seed in seeds])
    default = normalisation(str(data["variant"]))
    mean, std = (np.float32(data.get(name, default[name])) for name in ("mean", "std"))
    return torch.from_numpy((batch - mean[:, None, None]) / std[:, None, None])


def normalisation(variant: str) -> dict:
    """Mean and std (RGB) that the published configs of a variant name."""
    if "x65" in variant:
        return {"mean": (128.0,) * 3, "std": (128.0,) * 3}
    return {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
