"""Synthetic weights of Auto-Panoptic by the names of the golden files, and the models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from tests.data.golden.panoptic_deeplab import synthetic_checkpoint

SYSTEM = "auto_panoptic"


def fill(module: nn.Module, published_name: Callable[[str], str]) -> nn.Module:
    """Load what the golden generator put into the tensor of each published name."""
    state = {
        name: torch.from_numpy(
            synthetic_checkpoint.synthetic_tensor(published_name(name), tuple(value.shape))
        )
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.eval()


def head_op_name(op: str, name: str) -> str:
    """Name of a parameter of one head operation in ``ops.npz``."""
    if name.startswith("norm."):
        return f"op.{op}.1.groupnorm.{name.removeprefix('norm.')}"
    inner = name.removeprefix("conv.") if "wise" in name else name
    return f"op.{op}.0.{inner}"


def block_name(op: str, name: str) -> str:
    """Name of a parameter of one backbone block in ``ops.npz``; the block is called ``9z``."""
    match = re.fullmatch(r"(?:branch\.(\d)|shortcut)\.(\w+)\.(\w+)", name)
    assert match, name
    number, layer, leaf = match.groups()
    if number is None:
        folder, core = "proj_conv", "9z_proj"
    else:
        folder, core = f"conv.{number}", f"9z_{op}_branch2{'abc'[int(number)]}"
    layer_name = {
        "depthwise": f"interstellar{core}_s",
        "bn_depth": f"interstellar{core}_s_bn",
        "pointwise": f"interstellar{core}",
        "bn_point": f"bn{core}",
    }[layer]
    return f"block.{folder}.{layer_name}.{leaf}"


SUPERNET = Path(__file__).parents[2] / "configs" / "auto_panoptic" / "auto-panoptic.py"
COCO_3_8G = {
    "backbone": "3202132013133001001023221013122112020230",
    "mask": "4123",
    "semantic": "230",
    "f2b": "2000",
    "b2f": "11120",
}
WIDTHS_3_8G = (72, 172, 432, 864, 1728)
CLASS_COUNTS = {
    "$num_things": 80,
    "$thing_labels": tuple(range(80)),
    "$stuff_labels": tuple(range(80, 133)),
}


def model_config(choices: dict[str, str] | None = None) -> ConfigDict:
    """Model of the base config with COCO's classes: the supernet, or the 3.8G network.

    Args:
        choices: Digits of each group of decisions; None for the supernet.
    """
    cfg = Config.fromfile(SUPERNET)
    if choices is not None:
        space = {group["name"]: group["key"] for group in cfg.search_space}
        fixed = {space[name]: [int(d) for d in digits] for name, digits in choices.items()}
        cfg.merge_from_dict({f"model.{key}": value for key, value in fixed.items()})
        cfg.merge_from_dict({"widths": WIDTHS_3_8G})
        cfg.model.neck.in_channels = list(WIDTHS_3_8G[1:])
    variables = {f"${key}": value for key, value in cfg.items()} | CLASS_COUNTS
    return _fill(cfg.model, variables)


def decisions() -> list[str]:
    """Names of all decisions in the order of the published codes."""
    groups = Config.fromfile(SUPERNET).search_space
    return [f"{group['name']}.{number}" for group in groups for number in range(group["size"])]


def _fill(node: Any, values: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return ConfigDict({key: _fill(value, values) for key, value in node.items()})
    if isinstance(node, list | tuple):
        return type(node)(_fill(value, values) for value in node)
    return values.get(node, node) if isinstance(node, str) else node
