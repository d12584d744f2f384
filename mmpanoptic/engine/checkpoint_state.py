"""What a checkpoint holds, reduced to tensors and plain Python values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import nn
from torch.distributed.tensor import DTensor

from .fully_sharded import share_like

_ATOMS: tuple[Any, ...] = (bool, int, float, complex, str, bytes)


def to_plain(value: Any, place: str = "checkpoint") -> Any:
    """Rebuild a nested value from what ``torch.load(weights_only=True)`` accepts.

    Mappings become dicts (an ``OrderedDict`` stays one, with the ``_metadata`` of state dicts),
    NumPy scalars Python numbers, NumPy arrays and tensors CPU tensors, paths strings.

    Args:
        value: The value.
        place (str): Where it stands, for the message.

    Returns:
        Any: The plain value; tensors on the CPU are shared with ``value``, not copied.

    Raises:
        TypeError: If the value holds another class; the message says where.
    """
    if value is None or type(value) in _ATOMS or isinstance(value, torch.dtype | torch.device):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return _plain_mapping(value, place)
    if isinstance(value, list | tuple | set | frozenset):
        items = [to_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        return to_plain(value.item(), place)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Path):
        return str(value)
    for base in _ATOMS:  # subclasses, such as enumerations and indices with attributes
        if isinstance(value, base):
            return base(value)
    raise TypeError(
        f"{place} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint "
        "cannot hold; store tensors, numbers, strings, lists and dicts"
    )


def _plain_mapping(value: Mapping[Any, Any], place: str) -> dict[Any, Any]:
    items = ((to_plain(k, place), to_plain(v, f"{place}.{k}")) for k, v in value.items())
    if not isinstance(value, OrderedDict):
        return dict(items)
    plain = OrderedDict(items)
    metadata = getattr(value, "_metadata", None)
    if metadata is not None:
        plain._metadata = to_plain(metadata, place)  # type: ignore[attr-defined]
    return plain


def message_hub_to_plain(hub: MessageHub, warn: Callable[[str], None]) -> dict[str, Any]:
    """Reduce the state of a message hub.

    Differences from the original (``MessageHub.state_dict``): logged scalars become pairs of
    tensors, and runtime information that is not plain is left out instead of pickled.

    Args:
        hub (MessageHub): The hub.
        warn (Callable): Told what was left out.

    Returns:
        dict: Plain; :func:`message_hub_from_plain` is the inverse.
    """
    state = hub.state_dict()
    scalars = {}
    for name, buffer in state["log_scalars"].items():
        values, counts = (np.asarray(array, np.float64) for array in buffer.data)
        scalars[name] = {"values": torch.from_numpy(values), "counts": torch.from_numpy(counts)}
    info = {}
    for name, value in state["runtime_info"].items():
        try:
            info[name] = to_plain(value, name)
        except TypeError as error:
            warn(f"the message hub's {error}; it will be missing after a resume")
    keys = {name: kept for name, kept in state["resumed_keys"].items() if name in info | scalars}
    return {"log_scalars": scalars, "runtime_info": info, "resumed_keys": keys}


def message_hub_from_plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild the argument of ``MessageHub.load_state_dict``.

    Args:
        state (Mapping): From :func:`message_hub_to_plain`, or a state of mmengine's own, which
            is passed on. Missing parts are empty.

    Returns:
        dict: With ``HistoryBuffer`` objects.
    """
    scalars = {}
    for name, entry in state.get("log_scalars", {}).items():
        if isinstance(entry, Mapping):
            values, counts = entry["values"].cpu().numpy(), entry["counts"].cpu().numpy()
            entry = HistoryBuffer(values, counts)
        scalars[name] = entry
    return {"runtime_info": {}, "resumed_keys": {}, **state, "log_scalars": scalars}


def scheduler_states(schedulers: Any) -> Any:
    """Collect the states of a runner's parameter schedulers: a list, or a dict of lists."""
    if isinstance(schedulers, Mapping):
        return {name: scheduler_states(group) for name, group in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]


def open_window(model: nn.Module, optim_wrapper: Any) -> dict[str, Any] | None:
    """Collect the gradients that have been accumulated since the optimizer's last step.

    Processes that accumulate without exchange agree on their mean, which becomes the gradient of
    each of them: the mean that the next exchange takes is the same, and a resumed run goes on from
    it.

    Args:
        model (nn.Module): The model, out of its wrappers.
        optim_wrapper: The runner's.

    Returns:
        dict | None: ``counts`` (iterations of a whole window) and ``gradients`` by name; None
        between two windows.
    """
    if not isinstance(optim_wrapper, OptimWrapper) or optim_wrapper.should_update():
        return None
    gradients = {
        k: weight.grad for k, weight in model.named_parameters() if weight.grad is not None
    }
    if get_world_size() > 1:
        for gradient in gradients.values():
            if not isinstance(gradient, DTensor):  # shares of the mean
                all_reduce(gradient, op="mean")
    return {"counts": optim_wrapper._accumulative_counts, "gradients": gradients}


def reopen_window(model: nn.Module, optim_wrapper: Any, window: Mapping[str, Any]) -> str | None:
    """Put the gradients of :func:`open_window` back.

    Args:
        model (nn.Module): The model, out of its wrappers.
        optim_wrapper: The runner's.
        window (Mapping): From the checkpoint.

    Returns:
        str | None: Why they do not fit; None if all is well.
    """
    counts = getattr(optim_wrapper, "_accumulative_counts", 1)
    if counts != window["counts"]:
        return (
            f"the checkpoint holds gradients of a part of {window['counts']} iterations, but "
            f"accumulative_counts is {counts} now; they are dropped"
        )
    for name, weight in model.named_parameters():
        if name in window["gradients"]:
            share = share_like(window["gradients"][name], weight)
            weight.grad = share.to(weight.device, weight.dtype)
    return None


def bare_model(model: nn.Module) -> nn.Module:
    """Take a model out of its wrappers: for distributed runs, for test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = cast("nn.Module", model.module)
    return model


def misfits(model: nn.Module, weights: Mapping[str, Any], allow_extra: bool) -> list[str]:
    """List where weights and model differ.

    Args:
        model (nn.Module): The model.
        weights (Mapping): Its intended state dict.
        allow_extra (bool): Whether names that the model does not have are right.

    Returns:
        list[str]: One short text per name that is missing, unknown or of another shape. The
        counters of batch norms, which old files lack, may be missing.
    """
    own = model.state_dict()
    problems = [
        f"{name} is missing"
        for name in own
        if name not in weights and not name.endswith("num_batches_tracked")
    ]
    for name, value in weights.items():
        if name not in own:
            problems += [] if allow_extra else [f"{name} is not in the model"]
            continue
        expected, given = (tuple(getattr(x, "shape", ())) for x in (own[name], value))
        if expected != given:
            problems.append(f"{name} has shape {given} instead of {expected}")
    return problems
