"""Models of the RAP golden files, built from the configs of this repository."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from mmpanoptic.datasets.label_sets import COCO_PANOPTIC
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS
from tests.data.golden.panoptic_deeplab.synthetic_checkpoint import synthetic_tensor
from tests.golden import layout_file

SYSTEM = "rap"
CONFIGS = Path(__file__).parents[2] / "configs" / "rap"
BODIES = {
    "R_50": "r50",
    "R_101": "r101",
    "X_101": "x101",
    "X_152": "x152",
    "X_152_dcn": "x152-dcn",
}
CELL_ANCHORS = "rpn.anchor_generator.cell_anchors."


KINDS = {"_RAP": "relation", "_ocfusion": "ocfusion"}


def config_path(variant: str) -> Path:
    """Find the model file (base) or the leaf config (with a head) of a golden variant."""
    for suffix, kind in KINDS.items():
        if variant.endswith(suffix):
            body = BODIES[variant.removesuffix(suffix)]
            (path,) = CONFIGS.glob(f"rap_{body}_{kind}-finetune_*_coco.py")
            return path
    body = BODIES[variant]
    return CONFIGS / ("panoptic-fpn.py" if body == "r50" else f"panoptic-fpn_{body}.py")


def model_config(variant: str) -> Config:
    """Config of a variant's model on COCO, with the published treatment of padding."""
    cfg = Config.fromfile(config_path(variant))
    cfg.pad_handling = "squash"
    return resolve_config(cfg, COCO_PANOPTIC.to_metainfo()).model


@cache
def manifest(variant: str) -> dict:
    """Names and shapes of a released checkpoint."""
    return json.loads(layout_file(SYSTEM, f"manifest_{variant}.json").read_text())


def weights(variant: str, scaled: bool = True, prefix: str = "") -> dict[str, torch.Tensor]:
    """Made-up weights of a variant in the published naming."""
    path = layout_file(SYSTEM, "weight_scaling.json")
    rules = json.loads(path.read_text()) if scaled else []
    state = {}
    for name, shape in manifest(variant).items():
        if name.startswith(prefix) and not name.startswith(CELL_ANCHORS):
            value = synthetic_tensor(name, shape)
            for pattern, factor in rules:
                if re.search(pattern, name):
                    value = value * np.float32(factor)
            state[name] = torch.from_numpy(value)
    return state


def load_weights(model: nn.Module, state: dict) -> None:
    """Load published tensors into a model or a part of it that lacks the others."""
    model.load_state_dict(RapKeyMap(model).to_ours(state), strict=True)


def build_trunk(variant: str) -> nn.Module:
    """Build backbone and neck with made-up weights."""
    cfg = model_config(variant)
    with torch.device("meta"):  # drawing random weights first would take most of the time
        model = nn.ModuleDict({n: MODELS.build(cfg[n]) for n in ("backbone", "neck")})
    state = weights(variant, prefix="backbone.")
    model.load_state_dict(RapKeyMap(model).to_ours(state), strict=True, assign=True)
    return model.eval()


def normalise(image: np.ndarray, cfg: Config) -> torch.Tensor:
    """Subtract the mean from a BGR image ``(3, H, W)``; return a batch of one."""
    mean = np.float32(cfg.data_preprocessor.mean)[:, None, None]
    return torch.from_numpy(image.astype(np.float32) - mean)[None]
