"""Activation checkpointing of any backbone: blocks are computed again in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mmpanoptic.registry import ConfigError

from .norms import checkpoint_block

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def checkpoint_backbone(backbone: nn.Module) -> None:
    """Let a backbone keep only what its blocks hand to each other.

    Training deep nets with sublinear memory cost (arXiv:1604.06174): one more forward pass of the
    backbone for the memory of its activations. Outputs, gradients and running statistics stay the
    same to the last bit; random numbers of a block are drawn again as they were.

    Args:
        backbone (nn.Module): Its blocks change their class, so that names of weights, copies and
            checkpoints stay as they are.

    Raises:
        ConfigError: If there is nothing to compute again: no blocks, none that is trained, or
            blocks that compute themselves again already (``with_cp``).
    """
    name = type(backbone).__name__
    blocks = list(find_blocks(backbone))
    if not blocks:
        raise ConfigError(
            f"activation_checkpointing: {name} has no list of blocks that could be computed again; "
            "leave the setting out"
        )
    if not any(p.requires_grad for block in blocks for p in block.parameters()):
        raise ConfigError(
            f"activation_checkpointing does nothing here: no block of {name} is trained, so none "
            "keeps activations; leave the setting out"
        )
    if any(getattr(part, "with_cp", False) for part in backbone.modules()):
        raise ConfigError(
            f"activation_checkpointing and {name}'s with_cp do the same; set one of the two"
        )
    for block in blocks:
        kind: Any = type(block)
        block.__class__ = _checkpointed(kind)


def find_blocks(module: nn.Module, listed: bool = False) -> Iterator[nn.Module]:
    """Yield the outermost modules that are blocks.

    That is what has an option ``with_cp``, the name of mmcv's family for being computed again, and
    entries of lists of modules that have several layers.

    Args:
        module (nn.Module): Backbone or part of it.
        listed (bool): Whether it is a list.
    """
    for child in module.children():
        entry = listed and not isinstance(child, CONTAINERS) and _count_layers(child) > 1
        if entry or hasattr(child, "with_cp"):
            yield child
        else:
            yield from find_blocks(child, isinstance(child, CONTAINERS))


def _count_layers(module: nn.Module) -> int:
    """Count convolutions and matrix products."""
    return sum(weight.dim() > 1 for weight in module.parameters())


@functools.cache
def _checkpointed(kind: Any) -> type[nn.Module]:
    """Derive a class of the same name that is computed again in the backward pass."""

    def forward(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        function = functools.partial(kind.forward, self, **options)
        if not torch.is_grad_enabled():
            return function(*inputs)
        return checkpoint_block(self, function, *inputs)

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), {"forward": forward, "__doc__": kind.__doc__, **names})
