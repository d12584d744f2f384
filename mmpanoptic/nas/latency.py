"""Latency of choices, measured on the machine at hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.layers import ChoiceModule, iter_choices, set_path
from ..utils.files import read_json, write_json
from .cost import CostTable
from .space import SearchSpace


def median_seconds(
    function: Callable[[], Any], device: torch.device, repeats: int, warmup: int
) -> float:
    """Time a function: the median of several calls, after some that do not count.

    Args:
        function (Callable): What to time.
        device (torch.device): Waited for before and after each call if it is a GPU.
        repeats (int): Calls that count.
        warmup (int): Calls before them.

    Returns:
        float: Seconds per call.
    """
    seconds = []
    for number in range(warmup + repeats):
        _wait(device)
        start = time.perf_counter()
        function()
        _wait(device)
        if number >= warmup:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def measure_choices(
    model: nn.Module,
    space: SearchSpace,
    forward: Callable[[], Any],
    repeats: int = 20,
    warmup: int = 5,
) -> dict[str, Any]:
    """Measure every choice of a supernet by itself, with the inputs that it gets in the network.

    Args:
        model (nn.Module): The supernet, in evaluation mode.
        space (SearchSpace): Its space.
        forward (Callable): Runs the model on a typical input.
        repeats (int): Calls that count, of each choice.
        warmup (int): Calls before them.

    Returns:
        dict: ``base_ms``, the time of everything that is not searched, and ``choices_ms``, one
        list per decision. Where a module runs several times per image (on every level of the
        pyramid) its times are added up. Plain values, see :func:`write_latencies`.
    """
    space.check_model(model)
    path = dict.fromkeys(space.decisions, 0)
    set_path(model, path)
    device = next(model.parameters()).device
    inputs = _record_inputs(model, forward)
    blocks = {block.decision: block for _, block in iter_choices(model)}
    table = []
    for decision in space.decisions:
        times = []
        for alternative in blocks[decision]:
            calls = [(alternative, args) for args in inputs[decision]]
            run = _run_all(calls)
            times.append(1e3 * median_seconds(run, device, repeats, warmup))
        table.append(times)
    whole = 1e3 * median_seconds(forward, device, repeats, warmup)
    chosen = sum(times[0] for times in table)
    # Timed alone, modules can take longer than within the whole: never a negative rest.
    return {"base_ms": max(0.0, whole - chosen), "choices_ms": table}


def _run_all(calls: list[tuple[nn.Module, tuple[Any, ...]]]) -> Callable[[], None]:
    def run() -> None:
        for module, args in calls:
            module(*args)

    return run


def _record_inputs(
    model: nn.Module, forward: Callable[[], Any]
) -> dict[str, list[tuple[Any, ...]]]:
    """Run the model once and keep what every decision was called with."""
    inputs: dict[str, list[tuple[Any, ...]]] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, ChoiceModule):
            inputs.setdefault(module.decision, []).append(
                tuple(arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args)
            )

    handles = [block.register_forward_pre_hook(note) for _, block in iter_choices(model)]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    for _, block in iter_choices(model):
        inputs.setdefault(block.decision, [])
    return inputs


def write_latencies(
    path: str | os.PathLike[str], space: SearchSpace, measured: Mapping[str, Any], note: str
) -> None:
    """Write measured latencies as JSON.

    Args:
        path: The file.
        space (SearchSpace): The space, of which the decisions are named.
        measured (Mapping): From :func:`measure_choices`.
        note (str): Device, input size and whatever else the times hold for.
    """
    write_json(path, {"note": note, "decisions": list(space.decisions), **measured}, indent=1)


def add_latencies(table: CostTable, path: str | os.PathLike[str]) -> None:
    """Add measured latencies (``latency``, ms) to the costs of a space.

    Args:
        table (CostTable): Extended in place.
        path: From :func:`write_latencies`.

    Raises:
        ValueError: If the file was measured in another space.
    """
    content = read_json(path)
    counts = tuple(len(times) for times in content["choices_ms"])
    if tuple(content["decisions"]) != table.space.decisions or counts != table.space.num_choices:
        raise ValueError(
            f"{path} holds the latencies of another search space; measure this one with "
            "tools/search/measure_latency.py"
        )
    table.add_fixed("rest", latency=content["base_ms"])
    for costs, times in zip(table.choices, content["choices_ms"], strict=True):
        costs["latency"] = np.asarray(times)
