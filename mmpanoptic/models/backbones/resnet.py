"""ResNet with the three-convolution DeepLab stem and dilated stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.models.layers.cpu_convs import FusedConv2d
from mmpanoptic.models.layers.norms import checkpoint_block, keep_statistics
from mmpanoptic.registry import MODELS

from .arguments import check_out_indices

NUM_STAGES = 4


class _Block(BaseModule):
    """What the two residual blocks share: shortcut, sum and activation checkpointing."""

    expansion: int
    fused = False

    def __init__(self, downsample: nn.Module | None, with_cp: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.with_cp = with_cp
        self.relu = nn.ReLU(inplace=True)

    def _residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _children(self, kind: str) -> list[Any]:
        return [module for name, module in self.named_children() if name.startswith(kind)]

    def fuse_activations(self) -> None:
        """Leave ReLUs and the sum to the convolutions, where batch normalisations are folded."""
        convs = self._children("conv")
        self.fused = all(isinstance(conv, FusedConv2d) for conv in convs) and all(
            type(norm) is nn.Identity for norm in self._children("bn")
        )
        for conv in convs if self.fused else ():
            conv.relu = True

    def _fused_block(self, x: Tensor, shortcut: Tensor) -> Tensor:
        *convs, last = self._children("conv")
        for conv in convs:
            x = conv(x)
        return last(x, shortcut)

    def _block(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.fused:
            return self._fused_block(x, shortcut)
        return self.relu(self._residual(x) + shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H / stride, W / stride)``."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint_block(self, self._block, x)
        return self._block(x)


class BasicBlock(_Block):
    """Two 3x3 convolutions; only the first one is strided and dilated.

    Args:
        in_channels (int): Channels of the input.
        channels (int): Width of the block and channels of the output.
        stride (int): Stride of the first convolution.
        dilation (int): Dilation of the first convolution.
        downsample (nn.Module | None): Projection on the shortcut.
        norm_cfg (dict): Config of the norm layers.
        with_cp (bool): Recompute the block in the backward pass instead of keeping activations.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilation: int,
        downsample: nn.Module | None,
        norm_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__(downsample, with_cp)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = build_norm_layer(norm_cfg, channels)[1]

    def _residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(_Block):
    """1x1, 3x3, 1x1 convolutions; the 3x3 one is strided and dilated.

    Args:
        in_channels (int): Channels of the input.
        channels (int): Width of the 3x3 convolution; the output has four times as many.
        stride (int): Stride of the 3x3 convolution.
        dilation (int): Dilation of the 3x3 convolution.
        downsample (nn.Module | None): Projection on the shortcut.
        norm_cfg (dict): Config of the norm layers.
        with_cp (bool): Recompute the block in the backward pass instead of keeping activations.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dilation: int,
        downsample: nn.Module | None,
        norm_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__(downsample, with_cp)
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn2 = build_norm_layer(norm_cfg, channels)[1]
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = build_norm_layer(norm_cfg, out_channels)[1]

    def _residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


@MODELS.register_module()
class DeepLabResNet(BaseModule):
    """ResNet for dense prediction: DeepLab stem, dilated stages, multi-grid.

    "R-52" of Panoptic-DeepLab is depth 50 with ``stem="deeplab"``, ``stem_channels=128``,
    ``strides=(1, 2, 2, 1)``, ``dilations=(1, 1, 1, 2)`` and ``multi_grid=(2, 4, 8)``.

    Parameters are named as in mmsegmentation's ``ResNetV1c`` (and ``ResNet`` with the plain
    stem), so checkpoints of the OpenMMLab packages load. It is written again because importing
    ``mmseg.models`` or ``mmdet.models`` pulls matplotlib and costs seconds, which the inference
    path must not pay.

    Args:
        depth (int): 18, 34, 50 or 101.
        stem (str): "deeplab" for three 3x3 convolutions, "plain" for one 7x7; both with stride
            2 and followed by a max-pooling with stride 2.
        stem_channels (int | None): Channels after the stem; ``base_width`` if None. The first
            two convolutions of the DeepLab stem have half as many.
        stem_stride (int): 4, or 2 without the max-pooling: all strides are halved, for objects of
            few pixels.
        base_width (int): Width of the first stage; each further stage doubles it.
        strides (Sequence[int]): Stride of each stage.
        dilations (Sequence[int]): Dilation of each stage.
        multi_grid (Sequence[int] | None): Dilations of the blocks of the last stage. As in
            mmsegmentation they replace that stage's dilation and do not multiply it.
        out_indices (Sequence[int]): Stages whose outputs are returned, from 0.
        norm_cfg (dict): Config of the norm layers.
        norm_eval (bool): Keep the running statistics of the norm layers fixed in training.
        frozen_stages (int): -1 trains everything, 0 freezes the stem, k also the first k stages.
        with_cp (bool): Activation checkpointing: less memory, one more forward pass.
        init_cfg (dict | list | None): Initialisation; Kaiming normal (fan out) by default.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each output.
        out_strides (tuple[int, ...]): Stride of each output in pixels of the image.

    Raises:
        ValueError: If ``depth``, ``stem``, ``stem_stride`` or the length of a per-stage sequence is
            not allowed.
    """

    def __init__(
        self,
        depth: int = 50,
        stem: str = "deeplab",
        stem_channels: int | None = None,
        stem_stride: int = 4,
        base_width: int = 64,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        multi_grid: Sequence[int] | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                {"type": "Kaiming", "layer": "Conv2d"},
                {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]},
            ]
        super().__init__(init_cfg)
        if stem_stride not in (2, 4):
            raise ValueError(f"DeepLabResNet: stem_stride must be 2 or 4, got {stem_stride!r}")
        _check_arguments(depth, stem, strides, dilations, multi_grid, out_indices)
        self.norm_cfg = norm_cfg or {"type": "BN"}
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.out_indices = tuple(out_indices)
        self.stem_type = stem
        self.stem_stride = stem_stride
        self._make_stem(stem_channels or base_width)
        self._make_stages(
            depth, stem_channels or base_width, base_width, strides, dilations, multi_grid
        )
        self._freeze()

    def _make_stem(self, channels: int) -> None:
        if self.stem_type == "plain":
            self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
            self.bn1 = build_norm_layer(self.norm_cfg, channels)[1]
            self.relu = nn.ReLU(inplace=True)
        else:
            layers: list[nn.Module] = []
            widths = (3, channels // 2, channels // 2, channels)
            for index, stride in enumerate((2, 1, 1)):
                inner, outer = widths[index : index + 2]
                layers += [
                    nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
                    build_norm_layer(self.norm_cfg, outer)[1],
                    nn.ReLU(inplace=True),
                ]
            self.stem = nn.Sequential(*layers)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if self.stem_stride == 4 else nn.Identity()

    def _make_stages(
        self,
        depth: int,
        channels: int,
        base_width: int,
        strides: Sequence[int],
        dilations: Sequence[int],
        multi_grid: Sequence[int] | None,
    ) -> None:
        block, num_blocks = ARCHITECTURES[depth]
        out_channels, out_strides, total_stride = [], [], self.stem_stride
        for stage in range(max(self.out_indices) + 1):
            width = base_width << stage
            rates = [dilations[stage]] * num_blocks[stage]
            if stage == NUM_STAGES - 1 and multi_grid is not None:
                rates = list(multi_grid)
            layer = self._make_stage(block, channels, width, strides[stage], rates)
            self.add_module(f"layer{stage + 1}", layer)
            channels = width * block.expansion
            total_stride *= strides[stage]
            out_channels.append(channels)
            out_strides.append(total_stride)
        self.out_channels = tuple(out_channels[i] for i in self.out_indices)
        self.out_strides = tuple(out_strides[i] for i in self.out_indices)

    def _make_stage(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        in_channels: int,
        width: int,
        stride: int,
        dilations: Sequence[int],
    ) -> nn.Sequential:
        blocks = []
        channels = width * block.expansion
        for index, dilation in enumerate(dilations):
            downsample = None
            if index == 0 and (stride != 1 or in_channels != channels):
                downsample = nn.Sequential(
                    nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                    build_norm_layer(self.norm_cfg, channels)[1],
                )
            blocks.append(
                block(
                    in_channels if index == 0 else channels,
                    width,
                    stride if index == 0 else 1,
                    dilation,
                    downsample,
                    self.norm_cfg,
                    self.with_cp,
                )
            )
        return nn.Sequential(*blocks)

    def _stem_modules(self) -> list[nn.Module]:
        return [self.conv1, self.bn1] if self.stem_type == "plain" else [self.stem]

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = self._stem_modules()
        frozen += [getattr(self, f"layer{i}") for i in range(1, self.frozen_stages + 1)]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> DeepLabResNet:
        """Switch modes; frozen stages (and all norm layers with ``norm_eval``) stay in eval."""
        super().train(mode)
        if mode:
            self._freeze()
            if self.norm_eval:
                keep_statistics(self)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of a batch.

        Args:
            x (Tensor): Normalised images ``(N, 3, H, W)``.

        Returns:
            tuple[Tensor, ...]: One ``(N, C, H / stride, W / stride)`` per entry of
            ``out_indices``, fine to coarse.
        """
        for module in self._stem_modules():
            x = module(x)
        if self.stem_type == "plain":
            x = self.relu(x)
        x = self.maxpool(x)
        outputs = []
        for stage in range(max(self.out_indices) + 1):
            x = getattr(self, f"layer{stage + 1}")(x)
            if stage in self.out_indices:
                outputs.append(x)
        return tuple(outputs)


def _check_arguments(
    depth: int,
    stem: str,
    strides: Sequence[int],
    dilations: Sequence[int],
    multi_grid: Sequence[int] | None,
    out_indices: Sequence[int],
) -> None:
    if depth not in ARCHITECTURES:
        raise ValueError(
            f"DeepLabResNet: depth must be one of {sorted(ARCHITECTURES)}, got {depth}"
        )
    if stem not in ("deeplab", "plain"):
        raise ValueError(f'DeepLabResNet: stem must be "deeplab" or "plain", got {stem!r}')
    for name, values in (("strides", strides), ("dilations", dilations)):
        if len(values) != NUM_STAGES:
            raise ValueError(f"DeepLabResNet: {name} needs {NUM_STAGES} values, got {list(values)}")
    blocks = ARCHITECTURES[depth][1][-1]
    if multi_grid is not None and len(multi_grid) != blocks:
        raise ValueError(
            f"DeepLabResNet: multi_grid needs one dilation for each of the {blocks} blocks of the "
            f"last stage, got {list(multi_grid)}"
        )
    check_out_indices("DeepLabResNet", out_indices, NUM_STAGES)
