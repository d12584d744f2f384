"""Convolutions on a CPU: gradients of weights tap by tap, and what inference fuses into one call.

What oneDNN does well and badly with the channels last in memory, and what stands in here, is
measured in ``docs/benchmarks.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHANNELS_LAST = torch.channels_last


class TapGradientConv2d(nn.Conv2d):
    """A convolution with a faster gradient of its weights on a CPU; everywhere else ``nn.Conv2d``.

    With the channels last, oneDNN's gradient of dilated kernels multiplies the padding, too, and
    without AVX-512 that of all kernels is twice as slow as with the channels first. Here each tap
    of the kernel is one product of matrices, over the pixels that it meets inside the map.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H, W)``."""
        if not (self.weight.requires_grad and torch.is_grad_enabled() and _is_plain(x)):
            return super().forward(x)
        if not x.is_contiguous(memory_format=CHANNELS_LAST) or not self._pays():
            return super().forward(x)
        return _TapGradient.apply(x, self.weight, self.bias, self.dilation)

    def _pays(self) -> bool:
        return max(self.dilation) > 1 or torch.backends.cpu.get_cpu_capability() == "AVX2"


class _TapGradient(torch.autograd.Function):
    """``conv2d`` of stride 1 that keeps the size, with its own gradient of the weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return functional.conv2d(x, weight, bias, 1, _same_padding(weight, dilation), dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_x = of_weight = of_bias = None
        if needs_x:
            padding = _same_padding(weight, ctx.dilation)
            geometry: tuple = ((1, 1), padding, ctx.dilation, False, (0, 0), 1)
            mask = (True, False, False)
            of_x = torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, mask)[0]
        if needs_weight:
            of_weight = weight_gradient(x, grad, (weight.shape[2], weight.shape[3]), ctx.dilation)
        if needs_bias:
            of_bias = grad.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None


def weight_gradient(
    x: Tensor, grad: Tensor, kernel: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """Compute the gradient of the weights of a convolution of stride 1 that keeps the size.

    Args:
        x (Tensor): Its input ``(N, C, H, W)``.
        grad (Tensor): Of its output, ``(N, C', H, W)``.
        kernel (tuple[int, int]): Height and width of the kernel, both odd.
        dilation (tuple[int, int]): Of the kernel.

    Returns:
        Tensor: ``(C', C, *kernel)``, channels last.
    """
    height, width = x.shape[2:]
    inputs, grads = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    found = x.new_zeros(grad.shape[1], *kernel, x.shape[1])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            dy, dx = ((k - n // 2) * d for k, n, d in zip((i, j), kernel, dilation, strict=True))
            if abs(dy) >= height or abs(dx) >= width:
                continue  # the tap meets nothing but padding
            rows, columns = _inside(dy, height), _inside(dx, width)
            seen = inputs[:, rows[0], columns[0]].flatten(0, 2)
            by = grads[:, rows[1], columns[1]].flatten(0, 2)
            torch.mm(by.t(), seen, out=found[:, i, j])
    return found.permute(0, 3, 1, 2)


def _inside(shift: int, size: int) -> tuple[slice, slice]:
    """Find the pixels that a tap reads, and those it writes to."""
    return (
        slice(max(shift, 0), size + min(shift, 0)),
        slice(max(-shift, 0), size + min(-shift, 0)),
    )


def _same_padding(weight: Tensor, dilation: Sequence[int]) -> tuple[int, ...]:
    return tuple(n // 2 * d for n, d in zip(weight.shape[2:], dilation, strict=True))


def use_tap_gradients(model: nn.Module) -> None:
    """Let all convolutions of a model that can take the gradient of their weights tap by tap.

    Modules, parameters and their names stay what they are.

    Args:
        model (nn.Module): Any model.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _keeps_size(module):
            module.__class__ = TapGradientConv2d  # as PyTorch's lazy modules become others


def _keeps_size(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == 1
        and set(conv.stride) == {1}
        and max(conv.kernel_size) > 1
        and all(n % 2 for n in conv.kernel_size)
        and conv.padding == _same_padding(conv.weight, conv.dilation)
        and conv.padding_mode == "zeros"
    )


class FusedConv2d(nn.Conv2d):
    """A convolution for inference that adds a map and applies a ReLU in the same call on a CPU.

    Attributes:
        relu (bool): Whether a ReLU follows.
    """

    relu = False

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', h, w)``; add ``shortcut``, apply the ReLU."""
        if torch.is_grad_enabled() or not _is_plain(x) or not x.numel():
            y = super().forward(x)
            y = y if shortcut is None else y + shortcut
            return functional.relu(y) if self.relu else y
        ops, unary = torch.ops.mkldnn, "relu" if self.relu else "none"
        padding, stride, dilation = (list(v) for v in (self.padding, self.stride, self.dilation))
        geometry = (self.weight, self.bias, padding, stride, dilation, self.groups)
        if shortcut is None:
            y = ops._convolution_pointwise(x, *geometry, unary, [], "")
        else:
            last = unary if self.relu else None
            y = ops._convolution_pointwise.binary(
                x, shortcut, *geometry, "add", None, last, [], None
            )
        return y


def fuse_activations(model: nn.Module) -> None:
    """Let convolutions apply the ReLUs behind them, and residual blocks' last ones the sum.

    To be called once batch normalisations are folded. A module that holds such a pair in its own
    forward pass says so by a method ``fuse_activations``.

    Args:
        model (nn.Module): In evaluation mode; it cannot be trained afterwards.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        plain = type(module) in (nn.Conv2d, TapGradientConv2d)
        if plain and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = FusedConv2d
    for module in model.modules():
        if isinstance(module, ConvModule):
            _fuse_module(module)
        elif isinstance(module, nn.Sequential):
            _fuse_sequence(module)
        elif callable(fuse := getattr(module, "fuse_activations", None)):
            fuse()


def _fuse_module(module: ConvModule) -> None:
    follows = module.order == ("conv", "norm", "act") and module.with_activation
    bare = not module.with_norm or type(module.norm) is nn.Identity
    if follows and bare and _takes_relu(module.conv, module.activate):
        _give_relu(module.conv)
        module.with_activation = False


def _fuse_sequence(sequence: nn.Sequential) -> None:
    """Find a convolution, what is left of its norm, and a ReLU."""
    modules = list(sequence)
    for first in range(len(modules) - 2):
        conv, norm, act = modules[first : first + 3]
        if type(norm) is nn.Identity and _takes_relu(conv, act):
            _give_relu(conv)
            sequence[first + 2] = nn.Identity()


def _give_relu(conv: Any) -> None:
    conv.relu = True


def _takes_relu(conv: nn.Module, act: nn.Module) -> bool:
    return isinstance(conv, FusedConv2d) and type(act) is nn.ReLU


def _is_plain(x: Tensor) -> bool:
    """Whether a map is float32 on a CPU, and nobody watches or rewrites what is called."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )
