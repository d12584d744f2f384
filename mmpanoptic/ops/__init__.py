"""Operators of a compiled mmcv in PyTorch: what ``mmcv.ops`` needs where mmcv-lite is installed.

Use them through ``mmcv.ops``; ``import mmpanoptic`` makes it importable.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .mmcv_ext import MissingOperatorError, install

if TYPE_CHECKING:
    from .backends import (
        backend,
        describe_backends,
        name_backends,
        name_operators_in_use,
        pytorch_only,
    )

_BACKENDS = (
    "backend",
    "describe_backends",
    "name_backends",
    "name_operators_in_use",
    "pytorch_only",
)
__all__ = [
    "MissingOperatorError",
    "backend",
    "describe_backends",
    "install",
    "name_backends",
    "name_operators_in_use",
    "pytorch_only",
]


def __getattr__(name: str) -> Any:
    # The operators import torch, which `import mmpanoptic` must not do before it is needed.
    if name in _BACKENDS:
        return getattr(importlib.import_module(".backends", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
