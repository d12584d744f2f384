"""Statistics of batch norm for one path of a supernet.

The running statistics of a supernet mix all paths and fit none of them. Before a path is evaluated
they are estimated again; afterwards the old ones come back, so that evaluations do not depend on
their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .choice import ChoiceModule

MODES = ("mean", "ema")


def path_norms(model: nn.Module) -> list[_BatchNorm]:
    """List the batch norms that the present path of a model uses.

    Args:
        model (nn.Module): A supernet with a path, or a fixed network.

    Returns:
        list[_BatchNorm]: Those with running statistics, in the model's order.
    """
    if isinstance(model, _BatchNorm):
        return [model] if model.track_running_stats else []
    children = [model.chosen()] if isinstance(model, ChoiceModule) else list(model.children())
    return [norm for child in children for norm in path_norms(child)]


@contextmanager
def recalibrated_norms(
    model: nn.Module,
    forward: Callable[[Any], Any],
    batches: Iterable[Any],
    mode: str = "mean",
) -> Iterator[int]:
    """Estimate the statistics of a path's batch norms for the time of a block.

    Args:
        model (nn.Module): A supernet with a path, or a fixed network.
        forward (Callable): Runs the part of the model that holds the norms on one batch. Only the
            norms are in training mode then, so that dropout and the like do not disturb.
        batches (Iterable): What to run it on.
        mode (str): ``mean`` averages the statistics of all batches; ``ema`` is the published
            running average with the norms' own momentum, starting from mean 0 and variance 1.

    Yields:
        int: Number of norms whose statistics were estimated. After the block the old ones are
        back.

    Raises:
        ValueError: If the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"the mode of recalibration must be one of {MODES}, got {mode!r}")
    norms = path_norms(model)
    saved = [
        (norm, norm.momentum, [value.clone() for value in _statistics(norm)]) for norm in norms
    ]
    was_training = [(module, module.training) for module in model.modules()]
    try:
        _estimate(model, norms, forward, batches, mode)
        for norm, momentum, _ in saved:
            norm.momentum = momentum
        model.eval()
        yield len(norms)
    finally:
        for norm, momentum, old_values in saved:
            norm.momentum = momentum
            for value, old in zip(_statistics(norm), old_values, strict=True):
                value.copy_(old)
        for module, training in was_training:
            module.training = training


@torch.no_grad()
def _estimate(
    model: nn.Module,
    norms: list[_BatchNorm],
    forward: Callable[[Any], Any],
    batches: Iterable[Any],
    mode: str,
) -> None:
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        if mode == "mean":
            norm.momentum = None  # torch: cumulative average
    for batch in batches:
        forward(batch)
    if get_world_size() > 1:
        _average_over_processes(norms)


def _average_over_processes(norms: list[_BatchNorm]) -> None:
    """Make the statistics of all processes equal; with SyncBN they are already."""
    for norm in norms:
        if not isinstance(norm, nn.SyncBatchNorm):
            all_reduce(norm.running_mean, op="mean")
            all_reduce(norm.running_var, op="mean")


def _statistics(norm: _BatchNorm) -> list[torch.Tensor]:
    return [norm.get_buffer(n) for n in ("running_mean", "running_var", "num_batches_tracked")]
