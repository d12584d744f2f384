"""Computing precision of the operators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype in which to compute: float64 if any tensor has it, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def in_full_precision(function: _Function) -> _Function:
    """Make an operator compute outside autocast and without recording gradients.

    mmcv calls the operators from inside ``autograd.Function.forward``, where an active autocast
    would turn matrix products into half precision behind the operator's back.

    Args:
        function: An operator whose first positional argument is a tensor.
    """

    @functools.wraps(function)
    def wrapped(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return cast(_Function, wrapped)
