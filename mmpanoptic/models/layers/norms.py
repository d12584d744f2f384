"""Running statistics of batch norms: keeping them, and counting a batch only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def keep_statistics(module: nn.Module) -> None:
    """Set the batch norms of a module to evaluation mode, so that training leaves them alone.

    Args:
        module (nn.Module): Model or part; to be called after each ``train()``.
    """
    for norm in batch_norms(module):
        norm.eval()


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """List the batch norms of a module, itself included."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def checkpoint_block(module: nn.Module, function: Callable[..., Any], *inputs: Any) -> Any:
    """Compute a block again in the backward pass instead of keeping its activations.

    Args:
        module (nn.Module): The block, whose batch norms count the batch once, in the first pass.
        function (Callable): What is computed: the module itself or a method of it.
        *inputs (Any): Its arguments.

    Returns:
        Any: What ``function`` returns.
    """
    if torch.compiler.is_compiling():  # it repeats no side effects, and knows no such contexts
        return checkpoint(function, *inputs, use_reentrant=False)
    return checkpoint(
        function,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _counting_nothing(module)),
    )


@contextmanager
def _counting_nothing(module: nn.Module) -> Iterator[None]:
    """Normalise with the batch as usual, but leave the means and the number of batches alone."""
    norms = [norm for norm in batch_norms(module) if norm.training and norm.track_running_stats]
    saved = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Not track_running_stats: without statistics fewer tensors are saved for the backward pass
        # than in the first pass, which checkpoint() refuses.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in saved:
            norm.momentum, norm.num_batches_tracked = momentum, count
