"""Operations that Auto-Panoptic chooses from in its mask head and semantic branch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from mmcv.cnn import build_norm_layer
from mmcv.ops import ModulatedDeformConv2dPack
from torch import Tensor, nn

from .choice import check_choices, make_choice

HEAD_OPS = ("DWConv3x3", "DWConv5x5", "DFConv3x3", "DFConv5x5", "ATConv3x3", "ATConv5x5")
"""Published order: depthwise-separable, deformable and dilated convolutions."""


class DepthwiseConv(nn.Module):
    """Depthwise and pointwise convolution, both with bias, nothing in between.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel (int): Side of the depthwise kernel, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        return self.pointwise(self.depthwise(x))


class DeformableConv(ModulatedDeformConv2dPack):
    """Modulated deformable convolution (DCNv2) as mmcv has it, for empty batches and autocast too.

    Images without detections hand no region to the mask head, which mmcv's refuses. Under autocast
    it runs in float32: mmcv's kernels know no bfloat16, and places need the precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        if not len(x) or x.is_meta:
            # Any convolution gives the shape, and without regions gradients of 0 for all weights.
            nothing = nn.functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            return nothing + 0 * self.conv_offset(x).sum()
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def _split_op(op: str) -> tuple[str, int]:
    if op not in HEAD_OPS:
        raise ValueError(f"unknown head operation {op!r}; there are: {', '.join(HEAD_OPS)}")
    return op[:2], int(op[-1])


def _init_convs(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            nn.init.constant_(layer.bias, 0)  # type: ignore[arg-type]


class HeadOp(nn.Module):
    """One operation with its group norm and ReLU.

    Section 3.2 of Auto-Panoptic (arXiv:2010.16119). "DW": depthwise-separable; "DF": modulated
    deformable (DCNv2); "AT": dense with dilation 2. Weights start as published: normal by Xavier's
    rule with biases 0; those of deformable convolutions as mmcv has it, which is the same rule as
    the original's.

    Args:
        op (str): One of :data:`HEAD_OPS`.
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        norm_cfg (dict): Config of the norm layer.

    Raises:
        ValueError: If the operation is unknown.
    """

    def __init__(self, op: str, in_channels: int, out_channels: int, norm_cfg: dict) -> None:
        super().__init__()
        kind, kernel = _split_op(op)
        self.conv: nn.Module
        if kind == "DW":
            self.conv = DepthwiseConv(in_channels, out_channels, kernel)
        elif kind == "DF":
            self.conv = DeformableConv(
                in_channels, out_channels, kernel, padding=kernel // 2, bias=True
            )
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel - 1, dilation=2)
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]
        if kind != "DF":
            _init_convs(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``; N may be 0."""
        return nn.functional.relu(self.norm(self.conv(x)))


def head_op_macs(op: str, in_channels: int, out_channels: int) -> int:
    """Count the multiply-adds of an operation per position; norm, bias and sampling are free.

    Args:
        op (str): One of :data:`HEAD_OPS`.
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.

    Returns:
        int: Multiply-adds for one cell of the output.

    Raises:
        ValueError: If the operation is unknown.
    """
    kind, kernel = _split_op(op)
    area = kernel * kernel
    if kind == "DW":
        return area * in_channels + in_channels * out_channels
    if kind == "DF":
        return area * in_channels * (3 * area + out_channels)
    return area * in_channels * out_channels


def make_head_layers(
    decision: str,
    channels: Sequence[int],
    choices: Sequence[int] | None,
    ops: Sequence[str],
    norm_cfg: dict,
) -> nn.ModuleList:
    """Build a chain of searchable operations.

    Args:
        decision (str): Name of the decisions, which get a number each: "mask" for ``mask.0``...
        channels (Sequence[int]): Channels of the input and of every operation's output.
        choices (Sequence[int] | None): Number of the operation of each position; None for a
            supernet.
        ops (Sequence[str]): The operations to choose from, out of :data:`HEAD_OPS`.
        norm_cfg (dict): Config of the norm layers.

    Returns:
        nn.ModuleList: One module per position.

    Raises:
        ValueError: If an operation is unknown, or the choices do not fit.
    """
    pairs = list(itertools.pairwise(channels))
    chosen = check_choices(f"choices of {decision}", choices, len(pairs))
    layers = nn.ModuleList()
    for i, (width_in, width_out) in enumerate(pairs):
        makers = [partial(HeadOp, op, width_in, width_out, norm_cfg) for op in ops]
        layers.append(make_choice(f"{decision}.{i}", makers, chosen[i]))
    return layers
