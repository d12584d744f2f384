"""Operations and parameters of a model, part by part."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Part(NamedTuple):
    """Figures of a part of a model.

    Attributes:
        name (str): Dotted name; "total" for the model, "NAME (rest)" for what belongs to a part
            but to none of its parts that are listed.
        parameters (int): Elements of its parameters; shared ones count where they come first.
        flops (int): Operations of convolutions and matrix products, a multiply-add as two.
    """

    name: str
    parameters: int
    flops: int


def count_operations(model: nn.Module, size: tuple[int, int], depth: int = 1) -> list[Part]:
    """Run the network once on an empty image and count.

    An operation belongs to the innermost module that is running. A part that is never called
    itself, such as the RoI head of a two-stage model, has what its parts have.

    Args:
        model (nn.Module): With ``forward(inputs, mode="tensor")``.
        size (tuple[int, int]): Height and width of the image.
        depth (int): Levels of parts to list.

    Returns:
        list[Part]: The model as "total", then its parts; those of one level, with their rests, add
        up to what they are parts of.
    """
    device = next(model.parameters()).device
    with torch.inference_mode(), _innermost_operations(model) as flops:
        model(torch.zeros(1, 3, *size, device=device), mode="tensor")
    parameters: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parameters[name.rpartition(".")[0]] += parameter.numel()
    own = {name: Part(name, parameters[name], flops[name]) for name, _ in model.named_modules()}
    return list(_list_parts(model, "", own, depth))


def peak_memory(model: nn.Module, size: tuple[int, int]) -> int:
    """Find the most bytes that weights and maps of a network take at a time.

    What a backend needs for itself beside them (workspace of convolutions, cached blocks) is not
    known here and does not count.

    Args:
        model (nn.Module): With ``forward(inputs, mode="tensor")``; on the device ``meta`` nothing
            is computed.
        size (tuple[int, int]): Height and width of the image.

    Returns:
        int: Bytes.
    """
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    device = next(model.parameters()).device
    with torch.inference_mode(False), torch.no_grad(), LiveStorages() as alive:
        model(torch.zeros(1, 3, *size, device=device), mode="tensor")
    return weights + alive.most


class LiveStorages(TorchDispatchMode):
    """Follow the storages that operations make, until they are freed.

    Attributes:
        most (int): Most bytes that they took at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tree_leaves(args) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage(), known)
        return result

    def _follow(self, storage: Any, known: set[int]) -> None:
        key = storage._cdata
        if key in known or key in self.seen:
            return
        self.seen[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.seen.pop(key, 0)


def _list_parts(module: nn.Module, name: str, own: dict[str, Part], depth: int) -> Iterator[Part]:
    """Yield a part, its parts and what is left over."""
    whole = _sum(name, own)
    yield whole._replace(name=name or "total")
    children = [
        (f"{name}.{child}".lstrip("."), part)
        for child, part in module.named_children()
        if f"{name}.{child}".lstrip(".") in own
    ]
    children = [(child, part) for child, part in children if any(_sum(child, own)[1:])]
    if not depth or not children:
        return
    for child, part in children:
        yield from _list_parts(part, child, own, depth - 1)
    sums = [_sum(child, own) for child, _ in children]
    parameters = whole.parameters - sum(part.parameters for part in sums)
    flops = whole.flops - sum(part.flops for part in sums)
    if parameters or flops:
        yield Part(f"{name} (rest)".lstrip(), parameters, flops)


def _sum(name: str, own: dict[str, Part]) -> Part:
    prefix = f"{name}." if name else ""
    parts = [part for key, part in own.items() if key == name or key.startswith(prefix)]
    return Part(name, sum(part.parameters for part in parts), sum(part.flops for part in parts))


@contextmanager
def _innermost_operations(model: nn.Module) -> Iterator[Counter[str]]:
    """Count the operations of this block by the name of the innermost module that runs.

    Differences from the original (``FlopCounterMode``): it adds an operation to every module that
    runs, so the figures of parts overlap, and those of modules that are never called are missing.
    """
    counter = FlopCounterMode(display=False)
    flops: Counter[str] = Counter()
    running = [""]
    seen = 0

    def book() -> None:
        nonlocal seen
        total = int(counter.get_total_flops())
        flops[running[-1]] += total - seen
        seen = total

    def enter(name: str) -> Any:
        def hook(*_: Any) -> None:
            book()
            running.append(name)

        return hook

    def leave(*_: Any) -> None:
        book()
        running.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(enter(name)))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with counter:
            yield flops
            book()
    finally:
        for handle in hooks:
            handle.remove()
