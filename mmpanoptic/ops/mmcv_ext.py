"""Provide ``mmcv._ext`` where only mmcv-lite is installed.

``mmcv.ops`` imports its compiled operators from the module ``mmcv._ext``, which mmcv-lite lacks.
:func:`install` adds a finder at the end of ``sys.meta_path``: a full mmcv is found before it, and
nothing is imported until somebody imports ``mmcv.ops``.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

MODULE_NAME = "mmcv._ext"

IMPLEMENTED = {
    "nms": "nms",
    "softnms": "nms",
    "nms_match": "nms",
    "roi_align_forward": "roi_align",
    "roi_align_backward": "roi_align",
    "roi_pool_forward": "roi_pool",
    "roi_pool_backward": "roi_pool",
    "sigmoid_focal_loss_forward": "focal_loss",
    "sigmoid_focal_loss_backward": "focal_loss",
    "deform_conv_forward": "deform_conv",
    "deform_conv_backward_input": "deform_conv",
    "deform_conv_backward_parameters": "deform_conv",
    "modulated_deform_conv_forward": "deform_conv",
    "modulated_deform_conv_backward": "deform_conv",
    "ms_deform_attn_forward": "deform_attn",
    "ms_deform_attn_backward": "deform_attn",
}
"""Operators of ``mmcv._ext`` that mmpanoptic provides, and their modules in this package."""


class MissingOperatorError(RuntimeError):
    """An operator of mmcv that neither mmcv-lite nor mmpanoptic provides was called.

    Args:
        operator: Name in ``mmcv._ext``.
    """

    def __init__(self, operator: str) -> None:
        self.operator = operator
        super().__init__(
            f"The operator {operator!r} needs the compiled mmcv: mmcv-lite has no operators and "
            f"mmpanoptic provides only {', '.join(sorted(IMPLEMENTED))}. Install the full mmcv: "
            "`pip uninstall -y mmcv-lite`, then `mim install mmcv==2.1.0` (a ready build) or "
            "`pip install --no-build-isolation mmcv==2.1.0` (needs a C++ compiler)."
        )


class ProvidedExtension(ModuleType):
    """Module ``mmcv._ext`` whose operators are looked up at their first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in _BUILD_INFORMATION:
            operator: Callable[..., Any] = _no_build_information
        elif name in IMPLEMENTED:
            module = importlib.import_module(f".{IMPLEMENTED[name]}", __package__)
            operator = getattr(module, name)
        else:
            operator = _missing(name)
        setattr(self, name, operator)
        return operator


_BUILD_INFORMATION = ("get_compiler_version", "get_compiling_cuda_version")


def _no_build_information() -> str:
    return "n/a"


def _missing(name: str) -> Callable[..., NoReturn]:
    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise MissingOperatorError(name)

    operator.__name__ = name
    return operator


class _ExtensionLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return ProvidedExtension(spec.name, "Operators of mmcv, provided by mmpanoptic.ops.")

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty: its operators are looked up at their first use."""


class _ExtensionFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE_NAME:
            return None
        return importlib.machinery.ModuleSpec(fullname, _ExtensionLoader(), origin="mmpanoptic.ops")


def is_provided_spec(spec: importlib.machinery.ModuleSpec) -> bool:
    """Tell whether a spec of ``mmcv._ext`` is ours rather than that of a full mmcv."""
    return isinstance(spec.loader, _ExtensionLoader)


def install() -> None:
    """Make ``import mmcv._ext`` work where only mmcv-lite is installed.

    A full mmcv is not touched. Calling this again does nothing.
    """
    if not any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.append(_ExtensionFinder())
