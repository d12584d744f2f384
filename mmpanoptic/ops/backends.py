"""Which implementation each operator of ``mmcv._ext`` uses.

Order of choice: the compiled operators of a full mmcv; torchvision's, for the operators whose
numbers are the same and which pass a trial on the device at hand; pure PyTorch.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from .mmcv_ext import IMPLEMENTED, MissingOperatorError, is_provided_spec

TORCHVISION_NAMES = {
    "nms": "nms",
    "roi_align_forward": "roi_align",
    "roi_align_backward": "roi_align",
    "deform_conv_forward": "deform_conv2d",
    "modulated_deform_conv_forward": "deform_conv2d",
}
"""Operators that torchvision may compute.

The gradients of its deformable convolution differ from mmcv's where a sample lies exactly one pixel
outside the map, and its RoIPool rounds boxes in another way, so these are left out.
"""

_torchvision_allowed = True


def full_mmcv_installed() -> bool:
    """Tell whether the compiled operators of a full mmcv are installed."""
    spec = importlib.util.find_spec("mmcv._ext")
    return spec is not None and not is_provided_spec(spec)


def backend(operator: str, device: str | torch.device = "cpu") -> str:
    """Tell which implementation an operator uses.

    Args:
        operator: Name in ``mmcv._ext``, for example ``roi_align_forward``.
        device: Device of the inputs.

    Returns:
        ``"mmcv"``, ``"torchvision"`` or ``"pytorch"``.

    Raises:
        MissingOperatorError: If no full mmcv is installed and mmpanoptic lacks the operator.
    """
    if full_mmcv_installed():
        return "mmcv"
    if operator not in IMPLEMENTED:
        raise MissingOperatorError(operator)
    if torchvision_operator(operator, torch.device(device).type) is not None:
        return "torchvision"
    return "pytorch"


def describe_backends(device: str | torch.device = "cpu") -> dict[str, str]:
    """Tell for every operator that mmpanoptic provides which implementation it uses.

    Args:
        device: Device of the inputs.

    Returns:
        Operator name to ``"mmcv"``, ``"torchvision"`` or ``"pytorch"``.
    """
    return {operator: backend(operator, device) for operator in sorted(IMPLEMENTED)}


def name_backends(device: str | torch.device = "cpu") -> str:
    """Say in a line which implementation each operator uses, for logs.

    Args:
        device: Device of the inputs.

    Returns:
        For example ``"torchvision: deform_conv_forward, nms; pytorch: deform_conv_backward"``;
        both directions of an operator share a name where one implementation computes both.
    """
    chosen = describe_backends(device)
    directions: dict[str, dict[str, str]] = {}
    for operator, used in chosen.items():
        name, direction, _ = re.split(r"(_forward|_backward|$)", operator, maxsplit=1)
        directions.setdefault(name, {})[direction] = used
    operators: dict[str, list[str]] = {used: [] for used in chosen.values()}
    for name, by_direction in directions.items():
        one_for_both = len({*by_direction.values()}) == 1
        for direction, used in [*by_direction.items()][: 1 if one_for_both else None]:
            operators[used].append(name if one_for_both else name + direction)
    return "; ".join(f"{used}: {', '.join(names)}" for used, names in operators.items())


def name_operators_in_use(device: str | torch.device) -> str:
    """Say :func:`name_backends` in the words of a log, or that no part has asked for an operator.

    Args:
        device: Device of the model.

    Returns:
        The line. Looking at the backends would load torchvision, which a model without operators
        does without.
    """
    if "mmcv.ops" not in sys.modules:
        return f"operators on {device}: none is needed"
    return f"operators on {device}: {name_backends(device)}"


@contextmanager
def pytorch_only() -> Iterator[None]:
    """Make the operators of this package use pure PyTorch, for tests and benchmarks."""
    global _torchvision_allowed
    before, _torchvision_allowed = _torchvision_allowed, False
    try:
        yield
    finally:
        _torchvision_allowed = before


def torchvision_operator(operator: str, device_type: str) -> Callable[..., Tensor] | None:
    """Return torchvision's function for an operator, None where it is not to be used.

    Args:
        operator: Name in ``mmcv._ext``.
        device_type: ``"cpu"``, ``"cuda"``, ...

    Returns:
        The function of ``torchvision.ops``, which passed a trial on this type of device.
    """
    if not _torchvision_allowed or operator not in TORCHVISION_NAMES:
        return None
    return _tried_torchvision(TORCHVISION_NAMES[operator], device_type)


# A trial cannot be traced, and its outcome stays. torch.compiler.assume_constant_result does this
# and no more, but loads the whole compiler, which takes a second.
cast("Any", torchvision_operator)._dynamo_marked_constant = True


def forget_trials() -> None:
    """Try torchvision's functions anew at their next use."""
    _tried_torchvision.cache_clear()


@cache
def _tried_torchvision(name: str, device_type: str) -> Callable[..., Tensor] | None:
    try:
        function = getattr(importlib.import_module("torchvision.ops"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "torchvision":
            return None
        reason: Exception = error
    except Exception as error:  # a torchvision built for another torch fails in many ways
        reason = error
    else:
        try:
            _TRIALS[name](function, torch.device(device_type))
            return function
        except Exception as error:  # same as above: what it raises is not known beforehand
            reason = error
    warnings.warn(
        f"torchvision.ops.{name} is installed but not usable on {device_type!r} "
        f"({type(reason).__name__}: {reason}); mmpanoptic computes this operator in pure PyTorch. "
        "Install the torchvision release that belongs to your torch to get the faster one.",
        stacklevel=2,
    )
    return None


def _try_nms(function: Callable[..., Tensor], device: torch.device) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [8, 8, 9, 9]], device=device)
    kept = function(boxes, torch.tensor([0.5, 0.9, 0.1], device=device), 0.5)
    _expect(kept.tolist(), [1, 2])


def _try_roi_align(function: Callable[..., Tensor], device: torch.device) -> None:
    features = torch.arange(16.0, device=device).view(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 0, 0, 2, 2]], device=device)
    _expect(function(features, rois, (1, 1), 1.0, 1, True).flatten().tolist(), [2.5])


def _try_deform_conv(function: Callable[..., Tensor], device: torch.device) -> None:
    features = torch.arange(4.0, device=device).view(1, 1, 2, 2)
    offset = torch.zeros(1, 2, 2, 2, device=device)
    weight = torch.full((1, 1, 1, 1), 2.0, device=device)
    _expect(function(features, offset, weight).flatten().tolist(), [0.0, 2.0, 4.0, 6.0])


def _expect(got: Sequence[float], expected: Sequence[float]) -> None:
    if list(got) != list(expected):
        raise RuntimeError(f"a trial gave {got} where {expected} is right")


_TRIALS: dict[str, Callable[[Callable[..., Tensor], torch.device], None]] = {
    "nms": _try_nms,
    "roi_align": _try_roi_align,
    "deform_conv2d": _try_deform_conv,
}


def adjoint(function: Callable[[Tensor], Tensor], like: Tensor, grad_output: Tensor) -> Tensor:
    """Return the gradient of a function that is linear in its argument.

    Args:
        function: Linear function of a tensor of the shape of ``like``.
        like: Tensor whose shape, dtype and device the argument has.
        grad_output: Gradient with respect to the function's result.

    Returns:
        Gradient of the shape of ``like``.
    """
    with torch.enable_grad():
        argument = torch.zeros_like(like).requires_grad_()
        result = function(argument)
        (grad,) = torch.autograd.grad(result, argument, grad_output)
    return grad
