"""Bytes that operators read and write."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VIEWS = {
    *("view", "slice", "select", "unsqueeze", "expand", "t", "permute", "unbind", "split"),
    *("_unsafe_view", "alias", "detach", "empty", "transpose", "as_strided"),
}
"""Operators that touch no element."""


class Traffic(TorchDispatchMode):
    """Add up the bytes of what each operator reads and writes, as if no cache helped."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name not in VIEWS:
            for leaves in (tree_leaves((args, kwargs)), tree_leaves(result)):
                self.bytes += sum(_bytes(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return result


def _bytes(tensor: Tensor) -> int:
    """Count each element of memory once, however often a dimension repeats it."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return prod(size for size, stride in sizes if stride) * tensor.element_size()


def traffic_of(call: Any) -> int:
    """Return the bytes of a call."""
    with torch.no_grad(), Traffic() as traffic:
        call()
    return traffic.bytes
