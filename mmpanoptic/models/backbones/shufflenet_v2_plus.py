"""ShuffleNetV2+ as DetNAS and Auto-Panoptic search it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.models.layers import check_choices, make_choice
from mmpanoptic.registry import MODELS

from .arguments import check_out_indices

BLOCK_OPS = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
"""Published order of a block's operations."""


class ConvUnit(nn.Module):
    """Depthwise convolution (optional) and 1x1 convolution, each with norm; ReLU at the end.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel (int | None): Side of the depthwise kernel; None leaves it out.
        stride (int): Stride of the depthwise convolution.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int | None, stride: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.kernel = kernel
        if kernel is not None:
            self.depthwise = nn.Conv2d(
                in_channels,
                in_channels,
                kernel,
                stride,
                kernel // 2,
                groups=in_channels,
                bias=False,
            )
            self.bn_depth = build_norm_layer(norm_cfg, in_channels)[1]
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn_point = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        if self.kernel is not None:
            x = self.bn_depth(self.depthwise(x))
        return nn.functional.relu(self.bn_point(self.pointwise(x)), inplace=True)


class ShuffleBlock(nn.Module):
    """One block: half of the channels bypass it, or a shortcut halves the resolution.

    Args:
        op (str): One of :data:`BLOCK_OPS`.
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output; the input's for stride 1.
        stride (int): 1 or 2.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(
        self, op: str, in_channels: int, out_channels: int, stride: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        kernel = op_kernel(op)
        begin = in_channels if stride == 2 else in_channels // 2
        mid, end = out_channels // 2, out_channels - begin
        if op.startswith("xception"):
            self.branch = nn.Sequential(
                ConvUnit(begin, mid, kernel, stride, norm_cfg),
                ConvUnit(mid, mid, kernel, 1, norm_cfg),
                ConvUnit(mid, end, kernel, 1, norm_cfg),
            )
        else:
            self.branch = nn.Sequential(
                ConvUnit(begin, mid, None, 1, norm_cfg),
                ConvUnit(mid, end, kernel, stride, norm_cfg),
            )
        self.shortcut = None
        if stride == 2:
            self.shortcut = ConvUnit(in_channels, in_channels, kernel, 2, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        if self.shortcut is not None:
            return torch.cat([self.shortcut(x), self.branch(x)], 1)
        bypass, rest = shuffle_and_split(x)
        return torch.cat([bypass, self.branch(rest)], 1)


def shuffle_and_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Interleave the two halves of the channels, then cut them in the middle.

    Args:
        x (Tensor): ``(N, C, H, W)``, C even.

    Returns:
        tuple[Tensor, Tensor]: Bypass and input of the branch, each ``(N, C / 2, H, W)``. Of 12
        channels: 0, 6, 1, 7, 2, 8 and 3, 9, 4, 10, 5, 11.
    """
    half = x.shape[1] // 2
    shuffled = x.unflatten(1, (2, half)).transpose(1, 2).flatten(1, 2)
    return shuffled[:, :half], shuffled[:, half:]


def op_kernel(op: str) -> int:
    """Tell the side of a block operation's depthwise kernel.

    Raises:
        ValueError: If the operation is unknown.
    """
    if op not in BLOCK_OPS:
        raise ValueError(f"unknown block operation {op!r}; there are: {', '.join(BLOCK_OPS)}")
    return int(op[-1])


@MODELS.register_module()
class ShuffleNetV2Plus(BaseModule):
    """Searchable ShuffleNetV2: every block has one of four operations.

    DetNAS (arXiv:1903.10979), section 4.1; Auto-Panoptic (arXiv:2010.16119), section 3.2. With
    ``choices`` it is an ordinary network; without, a supernet with all operations in every block
    (decisions ``backbone.0``, ``backbone.1``...).

    Widths (stem and stages): 48, 96, 240, 480, 960 for the published supernet ("1.3G"), 72, 172,
    432, 864, 1728 for the final models ("3.8G"), 16, 64, 160, 320, 640 with depths 4, 4, 8, 4 for
    DetNAS "300M".

    Differences from the original: its synchronised BN divides by the unbiased variance in
    training; the standard layer here divides by the biased one, which differs by less than 1e-4 at
    the published sizes. The momentum is that of ``norm_cfg``: published are 0.1 in supernets and
    0.01 in fixed networks.

    Args:
        widths (Sequence[int]): Channels of the stem and of the stages, even.
        depths (Sequence[int]): Blocks of each stage; the first halves the resolution.
        choices (Sequence[int] | None): Number of the operation of each block, fine to coarse; None
            builds a supernet.
        ops (Sequence[str]): The operations to choose from: "shufflenet_3x3", "shufflenet_5x5",
            "shufflenet_7x7", "xception_3x3".
        out_indices (Sequence[int]): Stages that are returned, from 0 (stride 4).
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        init_cfg (dict | list | None): Initialisation; by default the stem is normal with standard
            deviation 0.01 and the rest as PyTorch does it.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each output.
        out_strides (tuple[int, ...]): Stride of each output in pixels of the image.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        widths: Sequence[int] = (72, 172, 432, 864, 1728),
        depths: Sequence[int] = (8, 8, 16, 8),
        choices: Sequence[int] | None = None,
        ops: Sequence[str] = BLOCK_OPS,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        stem_init = {"type": "Normal", "std": 0.01, "override": {"name": "stem"}}
        super().__init__(stem_init if init_cfg is None else init_cfg)
        _check_widths(widths, depths)
        check_out_indices("ShuffleNetV2Plus", out_indices, len(depths))
        self.widths, self.depths, self.ops = tuple(widths), tuple(depths), tuple(ops)
        self.out_indices = tuple(out_indices)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1)
        self.stem_bn = build_norm_layer(norm_cfg, widths[0])[1]
        self.choices = None if choices is None else tuple(choices)
        plan = block_plan(widths, depths)
        chosen = check_choices("choices of ShuffleNetV2Plus", choices, len(plan))
        self.blocks = nn.ModuleList()
        for i, (width_in, width_out, stride) in enumerate(plan):
            makers = [
                partial(ShuffleBlock, op, width_in, width_out, stride, norm_cfg) for op in ops
            ]
            self.blocks.append(make_choice(f"backbone.{i}", makers, chosen[i]))
        self.out_channels = tuple(self.widths[i + 1] for i in self.out_indices)
        self.out_strides = tuple(4 << i for i in self.out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of a batch.

        Args:
            x (Tensor): Normalised images ``(N, 3, H, W)``.

        Returns:
            tuple[Tensor, ...]: One ``(N, C, H / stride, W / stride)`` per entry of
            ``out_indices``, fine to coarse.
        """
        x = nn.functional.relu(self.stem_bn(self.stem(x)), inplace=True)
        levels, block = [], 0
        for stage in range(self.out_indices[-1] + 1):
            for _ in range(self.depths[stage]):
                x = self.blocks[block](x)
                block += 1
            levels.append(x)
        return tuple(levels[i] for i in self.out_indices)


def block_plan(widths: Sequence[int], depths: Sequence[int]) -> list[tuple[int, int, int]]:
    """List the channels of every block's input and output, and its stride."""
    plan = []
    for before, width, depth in zip(widths[:-1], widths[1:], depths, strict=True):
        plan.append((before, width, 2))
        plan.extend([(width, width, 1)] * (depth - 1))
    return plan


def _check_widths(widths: Sequence[int], depths: Sequence[int]) -> None:
    if len(widths) != len(depths) + 1 or any(depth < 1 for depth in depths):
        raise ValueError(
            "ShuffleNetV2Plus: widths are those of the stem and of one stage per entry of depths, "
            f"which are 1 or more; got widths {list(widths)} and depths {list(depths)}"
        )
    rising = all(low < high for low, high in itertools.pairwise(widths))
    if not rising or any(width % 2 for width in widths[1:]):
        raise ValueError(
            "ShuffleNetV2Plus: widths must rise from stage to stage (the shortcut keeps its "
            f"channels) and be even (half of them bypass a block), got {list(widths)}"
        )
