"""Latency of a supernet's choices, measured on the machine at hand."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mmpanoptic.models.layers import ChoiceModule, iter_choices, set_path


@torch.no_grad()
def measure_choices(
    model: nn.Module, forward: Callable[[], Any], repeats: int = 20, warmup: int = 5
) -> dict[str, Any]:
    """Measure every choice of a supernet by itself, with the inputs that it gets in the network.

    Args:
        model (nn.Module): The supernet, in evaluation mode.
        forward (Callable): Runs the model on a typical input.
        repeats (int): Calls of each choice, of which the median counts.
        warmup (int): Calls before them.

    Returns:
        dict: ``base_ms``, the time of everything that is not searched; ``decisions``, the names,
        and ``choices_ms``, for each of them the times of its choices. Where a module runs several
        times per image (on every level of the pyramid) its times are added up.
    """
    blocks = {block.decision: block for _, block in iter_choices(model)}
    set_path(model, dict.fromkeys(blocks, 0))
    device = next(model.parameters()).device
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None

    def median(function: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(warmup + repeats):
            wait(device)
            start = time.perf_counter()
            function()
            wait(device)
            seconds.append(time.perf_counter() - start)
        return 1e3 * float(np.median(seconds[warmup:]))

    def measure(module: nn.Module, inputs: list[tuple[Any, ...]]) -> float:
        return median(lambda: [module(*args) for args in inputs])

    inputs = _record_inputs(model, forward)
    table = [[measure(one, inputs[name]) for one in block] for name, block in blocks.items()]
    # Timed alone, modules can take longer than within the whole: never a negative rest.
    base = max(0.0, median(forward) - sum(times[0] for times in table))
    return {"base_ms": base, "decisions": list(blocks), "choices_ms": table}


def _record_inputs(
    model: nn.Module, forward: Callable[[], Any]
) -> defaultdict[str, list[tuple[Any, ...]]]:
    """Run the model once and keep what every decision was called with."""
    inputs: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)

    def note(block: ChoiceModule, args: tuple[Any, ...]) -> None:
        kept = (arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args)
        inputs[block.decision].append(tuple(kept))

    handles = [block.register_forward_pre_hook(note) for _, block in iter_choices(model)]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return inputs
