"""Xception-65 as DeepLab uses it: separable convolutions only, dilated last blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.models.layers.norms import checkpoint_block
from mmpanoptic.registry import MODELS

from .arguments import check_out_indices

ENTRY_BLOCKS = 3
"""Blocks before the middle flow; their stride is 2 each."""


class _SeparableUnit(nn.Module):
    """The layers of one separable convolution, under their published names."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, dilation: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            3,
            stride,
            dilation,
            dilation,
            groups=in_channels,
            bias=False,
        )
        self.bn_depth = build_norm_layer(norm_cfg, in_channels)[1]
        self.pointwise = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn_point = build_norm_layer(norm_cfg, channels)[1]


class SepConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, each with a norm layer.

    Args:
        in_channels (int): Channels of the input.
        channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution.
        dilation (int): Dilation of the depthwise convolution.
        relu_first (bool): One ReLU on the input; otherwise one after each norm layer.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilation: int,
        relu_first: bool,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.block = _SeparableUnit(in_channels, channels, stride, dilation, norm_cfg)
        self.relu_first = relu_first

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        block = self.block
        if self.relu_first:
            # Not in place: the input also feeds the shortcut and may be an output.
            x = nn.functional.relu(x)
            return block.bn_point(block.pointwise(block.bn_depth(block.depthwise(x))))
        x = nn.functional.relu(block.bn_depth(block.depthwise(x)))
        return nn.functional.relu(block.bn_point(block.pointwise(x)))


class XceptionBlock(nn.Module):
    """Three separable convolutions and a shortcut, without a ReLU on the sum.

    Args:
        channels (Sequence[int]): Channels of the input and of the three convolutions' outputs.
        stride (int): Stride of the third convolution and of the shortcut.
        dilations (Sequence[int]): Dilations of the three convolutions.
        shortcut (str): "conv" for a 1x1 convolution with norm, "sum" for the identity, "none".
        relu_first (bool): See :class:`SepConv`.
        norm_cfg (dict): Config of the norm layers.
        with_cp (bool): Recompute the block in the backward pass instead of keeping activations.
    """

    sep_conv1: SepConv
    sep_conv2: SepConv
    sep_conv3: SepConv

    def __init__(
        self,
        channels: Sequence[int],
        stride: int,
        dilations: Sequence[int],
        shortcut: str,
        relu_first: bool,
        norm_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.with_cp = with_cp
        if shortcut == "conv":
            self.conv = nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False)
            self.bn = build_norm_layer(norm_cfg, channels[-1])[1]
        for i in range(3):
            conv_stride = stride if i == 2 else 1
            conv = SepConv(
                channels[i], channels[i + 1], conv_stride, dilations[i], relu_first, norm_cfg
            )
            self.add_module(f"sep_conv{i + 1}", conv)

    def _block(self, x: Tensor) -> tuple[Tensor, Tensor]:
        second = self.sep_conv2(self.sep_conv1(x))
        y = self.sep_conv3(second)
        if self.shortcut == "conv":
            y = y + self.bn(self.conv(x))
        elif self.shortcut == "sum":
            y = y + x
        return y, second

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, C, H, W)`` to the output and the output of the second convolution."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint_block(self, self._block, x)
        return self._block(x)


@MODELS.register_module()
class Xception(BaseModule):
    """Xception for dense prediction; 16 middle blocks make Xception-65.

    Xception (arXiv:1610.02357) with the changes of DeepLabV3+ (arXiv:1802.02611), section 3.2.
    The outputs of the first two levels are those of the second separable convolution of blocks 2
    and 3, after the norm and before any ReLU; so they are signed, and so is level 2.

    Parameters have the names of SegmenTron's ImageNet weights and of the published
    Panoptic-DeepLab models, ``block{i}.sep_conv{j}.block.depthwise`` and so on.

    Differences from the original: none in numbers. The published models take the norm layers' eps
    1e-5, although the ImageNet weights were trained in TensorFlow with 1e-3;
    ``norm_cfg=dict(type="BN", eps=1e-3)`` gives the latter. "mg124" in their names is not real:
    all convolutions of the last block have the same dilation, which is ``multi_grid=None`` here.

    Args:
        output_stride (int): Stride of the last level: 8, 16 or 32.
        multi_grid (Sequence[int] | None): Dilations of the three convolutions of the last block.
            As in :class:`DeepLabResNet` they replace the block's dilation (1, 2 or 4 for stride
            32, 16 or 8) and do not multiply it.
        width_factor (float): Factor of all widths, rounded to multiples of 8; for tests and
            small machines.
        num_middle_blocks (int): 16 for Xception-65, 8 for Xception-41.
        out_indices (Sequence[int]): Levels that are returned, from 0: strides 4, 8, 16 and 32 or
            what ``output_stride`` makes of them.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        with_cp (bool): Activation checkpointing: less memory, one more forward pass.
        init_cfg (dict | list | None): Initialisation; PyTorch's defaults if None, as published.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each output.
        out_strides (tuple[int, ...]): Stride of each output in pixels of the image.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = None,
        width_factor: float = 1.0,
        num_middle_blocks: int = 16,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        _check_arguments(output_stride, multi_grid, width_factor, num_middle_blocks)
        check_out_indices("Xception", out_indices)
        self.norm_cfg = norm_cfg or {"type": "BN"}
        self.with_cp = with_cp
        self.out_indices = tuple(out_indices)
        self.num_middle_blocks = num_middle_blocks
        self._make_stem(_scale(32, width_factor), _scale(64, width_factor))
        self._make_blocks(output_stride, multi_grid, width_factor)
        channels = [_scale(width, width_factor) for width in (256, 728, 728, 2048)]
        strides = (4, 8, min(16, output_stride), output_stride)
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.out_strides = tuple(strides[i] for i in self.out_indices)

    def _make_stem(self, width: int, channels: int) -> None:
        self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn1 = build_norm_layer(self.norm_cfg, width)[1]
        self.conv2 = nn.Conv2d(width, channels, 3, 1, 1, bias=False)
        self.bn2 = build_norm_layer(self.norm_cfg, channels)[1]
        self.relu = nn.ReLU(inplace=True)

    def _make_blocks(
        self, output_stride: int, multi_grid: Sequence[int] | None, width_factor: float
    ) -> None:
        middle = 2 if output_stride == 8 else 1
        last = multi_grid or [32 // output_stride] * 3
        # Channels, stride, dilations, shortcut, ReLU first.
        rows: list[tuple[tuple[int, ...], int, Sequence[int], str, bool]] = [
            ((64, 128, 128, 128), 2, (1, 1, 1), "conv", True),
            ((128, 256, 256, 256), 2, (1, 1, 1), "conv", True),
            ((256, 728, 728, 728), 1 if output_stride == 8 else 2, (1, 1, 1), "conv", True),
            *[((728,) * 4, 1, (middle,) * 3, "sum", True)] * self.num_middle_blocks,
            ((728, 728, 1024, 1024), 2 if output_stride == 32 else 1, (middle,) * 3, "conv", True),
            ((1024, 1536, 1536, 2048), 1, last, "none", False),
        ]
        for number, (widths, stride, dilations, shortcut, relu_first) in enumerate(rows, 1):
            channels = [_scale(width, width_factor) for width in widths]
            block = XceptionBlock(
                channels, stride, dilations, shortcut, relu_first, self.norm_cfg, self.with_cp
            )
            self.add_module(f"block{number}", block)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of a batch.

        Args:
            x (Tensor): Normalised images ``(N, 3, H, W)``.

        Returns:
            tuple[Tensor, ...]: One ``(N, C, H / stride, W / stride)`` per entry of
            ``out_indices``, fine to coarse.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        levels = []
        for number in range(1, ENTRY_BLOCKS + 1):
            x, second = getattr(self, f"block{number}")(x)
            if number > 1:
                levels.append(second)
        for number in range(ENTRY_BLOCKS + 1, ENTRY_BLOCKS + self.num_middle_blocks + 1):
            x = getattr(self, f"block{number}")(x)[0]
        levels.append(x)
        if 3 in self.out_indices:
            first_of_exit = ENTRY_BLOCKS + self.num_middle_blocks + 1
            x = getattr(self, f"block{first_of_exit}")(x)[0]
            levels.append(getattr(self, f"block{first_of_exit + 1}")(x)[0])
        return tuple(levels[i] for i in self.out_indices)


def _scale(width: int, factor: float) -> int:
    return width if factor == 1 else max(8, int(width * factor / 8 + 0.5) * 8)


def _check_arguments(
    output_stride: int,
    multi_grid: Sequence[int] | None,
    width_factor: float,
    num_middle_blocks: int,
) -> None:
    if output_stride not in (8, 16, 32):
        raise ValueError(f"Xception: output_stride must be 8, 16 or 32, got {output_stride}")
    if multi_grid is not None and len(multi_grid) != 3:
        raise ValueError(
            "Xception: multi_grid needs one dilation for each of the 3 convolutions of the last "
            f"block, got {list(multi_grid)}"
        )
    if width_factor <= 0:
        raise ValueError(f"Xception: width_factor must be positive, got {width_factor}")
    if num_middle_blocks < 1:
        raise ValueError(f"Xception: num_middle_blocks must be 1 or more, got {num_middle_blocks}")
