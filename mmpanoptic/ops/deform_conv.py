"""Deformable convolutions v1 and v2, forward and backward, as called by ``mmcv.ops``.

Deformable ConvNets (arXiv 1703.06211) and Deformable ConvNets v2 (arXiv 1811.11168): every tap of
the kernel reads the map at an offset of its own; v2 multiplies what it reads by a mask.
"""

from __future__ import annotations

from torch import Tensor

from .backends import torchvision_operator
from .deform_sampling import (
    Convolution,
    Gradients,
    Problem,
    backward,
    check_shapes,
    empty_gradients,
    forward,
    points_like,
    weight_like,
)
from .gather import add_pixel_table
from .precision import compute_dtype, in_full_precision


def _version_1(geometry: dict[str, int]) -> Convolution:
    """Read mmcv's names: kH, kW, dH, dW, padH, padW, dilationH, dilationW, group, ..."""
    kernel, stride, padding, dilation = (
        (geometry[f"{name}H"], geometry[f"{name}W"]) for name in ("k", "d", "pad", "dilation")
    )
    groups, deform_groups = geometry["group"], geometry["deformable_group"]
    return Convolution(kernel, stride, padding, dilation, groups, deform_groups)


def _version_2(geometry: dict[str, int]) -> Convolution:
    """Read mmcv's names: kernel_h, kernel_w, stride_h, ..., group, deformable_group."""
    kernel, stride, padding, dilation = (
        (geometry[f"{name}_h"], geometry[f"{name}_w"])
        for name in ("kernel", "stride", "pad", "dilation")
    )
    groups, deform_groups = geometry["group"], geometry["deformable_group"]
    return Convolution(kernel, stride, padding, dilation, groups, deform_groups)


def _convolve(
    operator: str,
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None],
    conv: Convolution,
    output: Tensor,
    workspace: Tensor,
) -> None:
    """Run the forward pass on input, offset, mask, weight and bias."""
    input, offset, mask, weight, bias = tensors
    torchvision_conv = torchvision_operator(operator, input.device.type)
    if torchvision_conv is None:
        forward(Problem(input, offset, mask, weight, conv), output, bias, workspace)
        return
    check_shapes(input, offset, mask, weight, conv)
    dtype = compute_dtype(input, weight)
    result = torchvision_conv(
        input.to(dtype),
        offset.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        conv.stride,
        conv.padding,
        conv.dilation,
        None if mask is None else mask.to(dtype),
    )
    output.copy_(result)


def _store_inputs(grads: Gradients, grad_input: Tensor, grad_offset: Tensor) -> None:
    if grads.table is not None and grads.offset is not None:
        add_pixel_table(grad_input, grads.table)
        grad_offset.copy_(points_like(grads.offset, grad_offset))


def _store_weight(
    grads: Gradients, grad_weight: Tensor, conv: Convolution, scale: float = 1
) -> None:
    if grads.weight is not None:
        gradient = weight_like(grads.weight, grad_weight, conv)
        grad_weight.add_(gradient.to(grad_weight.dtype), alpha=scale)


@in_full_precision
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Compute what ``mmcv._ext.deform_conv_forward`` computes.

    Args:
        input: (B, C, H, W).
        weight: (C_out, C / groups, kH, kW).
        offset: (B, 2 * deform groups * kH * kW, Ho, Wo); row and column of each tap, in pixels.
        output: (B, C_out, Ho, Wo), overwritten.
        columns: Work space, see :meth:`.deform_sampling.Problem.samples`.
        ones: Unused.
        **geometry: kH, kW, dH, dW (stride), padH, padW, dilationH, dilationW, group,
            deformable_group; im2col_step is not needed, the work is divided by size.
    """
    tensors = (input, offset, None, weight, None)
    _convolve("deform_conv_forward", tensors, _version_1(geometry), output, columns)


@in_full_precision
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Compute what ``mmcv._ext.deform_conv_backward_input`` computes.

    Args:
        input: (B, C, H, W).
        offset: (B, 2 * deform groups * kH * kW, Ho, Wo).
        gradOutput: (B, C_out, Ho, Wo).
        gradInput: (B, C, H, W), the gradient is added to it.
        gradOffset: Like ``offset``, overwritten.
        weight: (C_out, C / groups, kH, kW).
        columns: Work space, as in :func:`deform_conv_forward`.
        **geometry: As in :func:`deform_conv_forward`.
    """
    problem = Problem(input, offset, None, weight, _version_1(geometry))
    grads = empty_gradients(problem, inputs=True)
    backward(problem, gradOutput, grads, columns)
    _store_inputs(grads, gradInput, gradOffset)


@in_full_precision
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **geometry: int,
) -> None:
    """Compute what ``mmcv._ext.deform_conv_backward_parameters`` computes.

    Args:
        input: (B, C, H, W).
        offset: (B, 2 * deform groups * kH * kW, Ho, Wo).
        gradOutput: (B, C_out, Ho, Wo).
        gradWeight: (C_out, C / groups, kH, kW), ``scale`` times the gradient is added to it.
        columns: Work space, see :meth:`.deform_sampling.Problem.samples`.
        ones: Unused.
        scale: Factor of the gradient.
        **geometry: As in :func:`deform_conv_forward`.
    """
    conv = _version_1(geometry)
    problem = Problem(input, offset, None, gradWeight, conv)
    grads = empty_gradients(problem, weight=True)
    backward(problem, gradOutput, grads, columns)
    _store_weight(grads, gradWeight, conv, scale)


@in_full_precision
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool = True,
    **geometry: int,
) -> None:
    """Compute what ``mmcv._ext.modulated_deform_conv_forward`` computes.

    Args:
        input: (B, C, H, W).
        weight: (C_out, C / groups, kernel_h, kernel_w).
        bias: (C_out,), ignored unless ``with_bias``.
        ones: Unused work space.
        offset: (B, 2 * deform groups * taps, Ho, Wo); row and column of each tap, in pixels.
        mask: (B, deform groups * taps, Ho, Wo), factors of the sampled values.
        output: (B, C_out, Ho, Wo), overwritten.
        columns: Work space, as in :func:`deform_conv_forward`.
        with_bias: Add the bias.
        **geometry: kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w,
            group, deformable_group.
    """
    tensors = (input, offset, mask, weight, bias if with_bias else None)
    _convolve("modulated_deform_conv_forward", tensors, _version_2(geometry), output, columns)


@in_full_precision
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool = True,
    **geometry: int,
) -> None:
    """Compute what ``mmcv._ext.modulated_deform_conv_backward`` computes.

    Args:
        input: (B, C, H, W).
        weight: (C_out, C / groups, kernel_h, kernel_w).
        bias: Unused.
        ones: Unused work space.
        offset: (B, 2 * deform groups * taps, Ho, Wo).
        mask: (B, deform groups * taps, Ho, Wo).
        columns: Work space, as in :func:`deform_conv_forward`.
        grad_input: (B, C, H, W), the gradient is added to it.
        grad_weight: Like ``weight``, the gradient is added to it.
        grad_bias: (C_out,), the gradient is added to it if ``with_bias``.
        grad_offset: Like ``offset``, overwritten.
        grad_mask: Like ``mask``, overwritten.
        grad_output: (B, C_out, Ho, Wo).
        with_bias: Whether the convolution has a bias.
        **geometry: As in :func:`modulated_deform_conv_forward`.
    """
    conv = _version_2(geometry)
    problem = Problem(input, offset, mask, weight, conv)
    grads = empty_gradients(problem, inputs=True, mask=True, weight=True)
    backward(problem, grad_output, grads, columns)
    _store_inputs(grads, grad_input, grad_offset)
    _store_weight(grads, grad_weight, conv)
    if grads.mask is not None:
        grad_mask.copy_(points_like(grads.mask, grad_mask))
    if with_bias:
        grad_bias.add_(grad_output.to(problem.dtype).sum((0, 2, 3)).to(grad_bias.dtype))
