"""Layers that are exported as something else than what they run as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.ops import ModulatedDeformConv2dPack
from torch import Tensor
from torch.nn import functional

from .errors import ExportError


@contextmanager
def exported_layers(model: Any, divisor: int | None) -> Iterator[None]:
    """Let some layers compute the same by what the exporter can write.

    Args:
        model (nn.Module): Deformable convolutions become ONNX's operator.
        divisor (int | None): The input's sides are open multiples of it: convolutions with
            TensorFlow's padding take theirs for multiples of their stride. None if they are fixed.

    Raises:
        ExportError: If they are not.
    """
    replaced: list[Any] = []
    for layer in model.modules():
        if isinstance(layer, ModulatedDeformConv2dPack):
            forward = partial(_deform, layer)
        elif isinstance(layer, Conv2dAdaptivePadding) and divisor is not None:
            forward = partial(_pad_whole_strides, layer)
        else:
            continue
        cast(Any, layer).forward = forward
        replaced.append(layer)
    try:
        if divisor is not None and any(isinstance(x, Conv2dAdaptivePadding) for x in replaced):
            side = (64 // divisor | 1) * divisor  # no multiple of more than the divisor gives
            with torch.no_grad():
                model.backbone(torch.zeros(1, 3, side, side))
        yield
    finally:
        for layer in replaced:
            del layer.forward


def _deform(layer: Any, x: Tensor) -> Tensor:
    """Run a deformable convolution as the operator that ONNX has for it."""
    rows, columns, mask = layer.conv_offset(x).chunk(3, dim=1)
    offset = torch.cat((rows, columns), dim=1)
    kernel, padding = layer.kernel_size, layer.padding
    size = [
        (length + 2 * pad - step * (side - 1) - 1) // stride + 1
        for length, pad, step, side, stride in zip(
            x.shape[2:], padding, layer.dilation, kernel, layer.stride, strict=True
        )
    ]
    bias = layer.bias if layer.bias is not None else x.new_zeros(layer.out_channels)
    return cast(
        Tensor,
        torch.onnx.ops.symbolic(
            "DeformConv",
            (x, layer.weight, offset, bias, mask.sigmoid()),
            {
                "kernel_shape": list(kernel),
                "strides": list(layer.stride),
                "dilations": list(layer.dilation),
                "pads": [*padding, *padding],
                "group": layer.groups,
                "offset_group": layer.deform_groups,
            },
            dtype=x.dtype,
            shape=[x.shape[0], layer.out_channels, *size],
            version=19,
        ),
    )


def _pad_whole_strides(layer: Any, x: Tensor) -> Tensor:
    """Pad as TensorFlow does where the sides are whole multiples of the stride.

    The padding is a constant then. The layer's own rule (``ceil`` and ``max`` of the sides, layer
    upon layer) gives expressions of symbolic sizes that PyTorch works on for many minutes.
    """
    missing = [
        max((side - 1) * dilation + 1 - stride, 0)
        for side, dilation, stride in zip(
            layer.kernel_size, layer.dilation, layer.stride, strict=True
        )
    ]
    if any(length % stride for length, stride in zip(x.shape[2:], layer.stride, strict=True)):
        raise ExportError(
            "with images of any size, Conv2dAdaptivePadding needs maps that are multiples of its "
            f"stride {tuple(layer.stride)}: set model.data_preprocessor.pad_size_divisor to the "
            "backbone's stride, or export with --size"
        )
    rows, columns = ((all_ // 2, all_ - all_ // 2) for all_ in missing)
    return functional.conv2d(
        functional.pad(x, [*columns, *rows]),
        layer.weight,
        layer.bias,
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
    )
