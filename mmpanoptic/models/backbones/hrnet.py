"""HRNetV2: parallel branches at four resolutions that exchange their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS

from .arguments import check_out_indices
from .resnet import BasicBlock, Bottleneck

STEM_CHANNELS = 64
NUM_BRANCHES = 4


class HRModule(nn.Module):
    """Residual blocks in every branch, then a sum over all branches in every branch.

    Args:
        channels (Sequence[int]): Width of each branch, fine to coarse.
        num_blocks (int): Residual blocks per branch.
        align_corners (bool): Convention of the bilinear enlargement in the sum.
        norm_cfg (dict): Config of the norm layers.
        with_cp (bool): Activation checkpointing of the blocks.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_blocks: int,
        align_corners: bool,
        norm_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            nn.Sequential(
                *[
                    BasicBlock(width, width, 1, 1, None, norm_cfg, with_cp)
                    for _ in range(num_blocks)
                ]
            )
            for width in channels
        )
        branches = range(len(channels))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_make_exchange(channels, j, i, norm_cfg) for j in branches)
            for i in branches
        )
        self.relu = nn.ReLU(inplace=True)

    def _receive(self, branch: int, inputs: Sequence[Tensor]) -> Tensor:
        """Sum what all branches send to one, in the order of the branches."""
        target = inputs[branch]
        exchange: Any = self.fuse_layers[branch]
        total: Tensor | None = None
        for source, x in enumerate(inputs):
            x = exchange[source](x)
            if source > branch:
                size = (target.shape[2], target.shape[3])
                x = functional.interpolate(
                    x, size=size, mode="bilinear", align_corners=self.align_corners
                )
            total = x if total is None else total + x
        return self.relu(total)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Map one ``(N, C, h, w)`` per branch to the same shapes."""
        inputs = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return [self._receive(branch, inputs) for branch in range(len(inputs))]


@MODELS.register_module()
class HRNet(BaseModule):
    """HRNetV2 without its classification head.

    HRNet (arXiv:1908.07919), section 3. "HRNet-W48" is ``width=48``.

    Parameters have HRNet's own names, which are also those of ``mmseg.HRNet`` and of the published
    Panoptic-DeepLab models. It is written again because importing ``mmseg.models`` pulls
    matplotlib and costs seconds, which the inference path must not pay, and because mmsegmentation
    enlarges in the exchange step with ``align_corners=False`` (mmdetection: nearest), while the
    published Panoptic-DeepLab models were trained with ``True``. ``align_corners=False`` gives
    mmsegmentation's numbers.

    Args:
        width (int): Width of the finest branch; each coarser one has twice as many channels.
        num_modules (Sequence[int]): Modules of stages 2, 3 and 4, which have 2, 3 and 4 branches.
        num_blocks (int): Residual blocks per branch and module.
        num_stem_blocks (int): Bottlenecks of stage 1.
        out_indices (Sequence[int]): Branches that are returned: strides 4, 8, 16, 32.
        align_corners (bool): Convention of the bilinear enlargement.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        with_cp (bool): Activation checkpointing: less memory, one more forward pass.
        init_cfg (dict | list | None): Initialisation; PyTorch's defaults if None, as published.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each output.
        out_strides (tuple[int, ...]): Stride of each output in pixels of the image.

    Raises:
        ValueError: If ``width``, ``num_modules`` or ``out_indices`` is not allowed.
    """

    def __init__(
        self,
        width: int = 48,
        num_modules: Sequence[int] = (1, 4, 3),
        num_blocks: int = 4,
        num_stem_blocks: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        align_corners: bool = True,
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        check_out_indices("HRNet", out_indices, NUM_BRANCHES)
        if width < 1 or len(num_modules) != NUM_BRANCHES - 1:
            raise ValueError(
                "HRNet: width must be positive and num_modules needs 3 values, got "
                f"{width} and {list(num_modules)}"
            )
        norm_cfg = norm_cfg or {"type": "BN"}
        self.out_indices = tuple(out_indices)
        self._make_stem(num_stem_blocks, norm_cfg, with_cp)
        previous = [STEM_CHANNELS * Bottleneck.expansion]
        for index, count in enumerate(num_modules):
            channels = [width << branch for branch in range(index + 2)]
            modules = [
                HRModule(channels, num_blocks, align_corners, norm_cfg, with_cp)
                for _ in range(count)
            ]
            self.add_module(
                f"transition{index + 1}", _make_transition(previous, channels, norm_cfg)
            )
            self.add_module(f"stage{index + 2}", nn.Sequential(*modules))
            previous = channels
        self.out_channels = tuple(previous[i] for i in self.out_indices)
        self.out_strides = tuple(4 << i for i in self.out_indices)

    def _make_stem(self, num_blocks: int, norm_cfg: dict, with_cp: bool) -> None:
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 3, 2, 1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, STEM_CHANNELS)[1]
        self.conv2 = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, 2, 1, bias=False)
        self.bn2 = build_norm_layer(norm_cfg, STEM_CHANNELS)[1]
        self.relu = nn.ReLU(inplace=True)
        channels = STEM_CHANNELS * Bottleneck.expansion
        shortcut = nn.Sequential(
            nn.Conv2d(STEM_CHANNELS, channels, 1, bias=False),
            build_norm_layer(norm_cfg, channels)[1],
        )
        blocks = [Bottleneck(STEM_CHANNELS, STEM_CHANNELS, 1, 1, shortcut, norm_cfg, with_cp)]
        for _ in range(num_blocks - 1):
            blocks.append(Bottleneck(channels, STEM_CHANNELS, 1, 1, None, norm_cfg, with_cp))
        self.layer1 = nn.Sequential(*blocks)

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
        branches = [self.layer1(x)]
        for index in range(1, NUM_BRANCHES):
            transition = getattr(self, f"transition{index}")
            inputs = []
            for branch, change in enumerate(transition):
                # New branches start from the coarsest one.
                inputs.append(change(branches[min(branch, len(branches) - 1)]))
            branches = getattr(self, f"stage{index + 1}")(inputs)
        return tuple(branches[i] for i in self.out_indices)


def _conv_norm(
    in_channels: int, channels: int, stride: int, norm_cfg: dict, relu: bool
) -> nn.Sequential:
    layers = [
        nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
        build_norm_layer(norm_cfg, channels)[1],
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def _make_exchange(channels: Sequence[int], source: int, target: int, norm_cfg: dict) -> nn.Module:
    """Build the layers from one branch to another. The caller enlarges."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(channels[source], channels[target], 1, bias=False),
            build_norm_layer(norm_cfg, channels[target])[1],
        )
    steps = target - source
    return nn.Sequential(
        *[
            _conv_norm(
                channels[source],
                channels[target if step == steps - 1 else source],
                2,
                norm_cfg,
                relu=step < steps - 1,
            )
            for step in range(steps)
        ]
    )


def _make_transition(
    previous: Sequence[int], channels: Sequence[int], norm_cfg: dict
) -> nn.ModuleList:
    """Build what adapts the branches of one stage to the next."""
    layers: list[nn.Module] = []
    for branch, width in enumerate(channels):
        if branch < len(previous):
            same = previous[branch] == width
            layers.append(
                nn.Identity() if same else _conv_norm(previous[branch], width, 1, norm_cfg, True)
            )
        else:
            layers.append(nn.Sequential(_conv_norm(previous[-1], width, 2, norm_cfg, True)))
    return nn.ModuleList(layers)
