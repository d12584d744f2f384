"""Faults that a parity test must find: what a wrong reimplementation typically gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook

# The eps of a normalisation layer, and the one that another library has there.
OTHER_EPS = {0.0: 1e-5, 1e-5: 1e-3, 1e-3: 1e-5}


@contextmanager
def wrong_eps() -> Iterator[None]:
    """Every normalisation layer computes with another eps."""

    def other(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def compute(*args: Any, **kwargs: Any) -> Tensor:
            *rest, eps = args
            if "eps" in kwargs:
                return function(*args, **{**kwargs, "eps": OTHER_EPS[kwargs["eps"]]})
            return function(*rest, OTHER_EPS[eps], **kwargs)

        return compute

    with (
        mock.patch.object(functional, "batch_norm", other(functional.batch_norm)),
        mock.patch.object(functional, "group_norm", other(functional.group_norm)),
    ):
        yield


def shifted_pixel() -> AbstractContextManager[None]:
    """What the first convolution reads lies one pixel too far to the right."""
    return _first_input(lambda x: x.roll(1, 3))


def swapped_channel() -> AbstractContextManager[None]:
    """What the first convolution reads has its first two channels swapped."""
    return _first_input(lambda x: torch.cat([x[:, 1:2], x[:, :1], x[:, 2:]], 1))


@contextmanager
def _first_input(change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    first: list[nn.Module] = []

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not isinstance(module, nn.Conv2d):
            return None
        first.append(module)
        return (change(inputs[0]), *inputs[1:]) if module is first[0] else None

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "eps": wrong_eps,
    "shift": shifted_pixel,
    "swap": swapped_channel,
}
