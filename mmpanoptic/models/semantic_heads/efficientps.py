"""Semantic head of EfficientPS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.models.layers.inplace_abn import abn_act, abn_norm
from mmpanoptic.models.layers.resize import resize_bilinear
from mmpanoptic.registry import MODELS

DPC_DILATIONS = ((1, 6), (1, 1), (6, 21), (18, 15), (6, 3))
"""(height, width) dilations of the dense prediction cell, in the order of its convolutions."""


class SeparablePair(nn.Module):
    """Two separable 3x3 convolutions: the "large scale feature extractor" (LSFE).

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels in between and of the output.
        options (dict): Configs of norm and activation.
        upsample (bool): Enlarge the result twice: the "mismatch correction" module (MC).
    """

    def __init__(
        self, in_channels: int, out_channels: int, options: dict, upsample: bool = False
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.convs = nn.ModuleList(
            DepthwiseSeparableConvModule(channels, out_channels, 3, padding=1, **options)
            for channels in (in_channels, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``, or twice that size."""
        for conv in self.convs:
            x = conv(x)
        if self.upsample:
            x = resize_bilinear(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        return x


class DensePredictionCell(nn.Module):
    """Five separable convolutions of different dilations, concatenated (DPC).

    "Searching for Efficient Multi-Scale Architectures" (arXiv:1809.04184), with the first
    convolution feeding all others but the last, which follows the fourth.

    Args:
        in_channels (int): Channels of the input and of each convolution.
        out_channels (int): Channels of the output.
        options (dict): Configs of norm and activation.
    """

    def __init__(self, in_channels: int, out_channels: int, options: dict) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            DepthwiseSeparableConvModule(
                in_channels, in_channels, 3, padding=dilation, dilation=dilation, **options
            )
            for dilation in DPC_DILATIONS
        )
        self.conv = ConvModule(len(DPC_DILATIONS) * in_channels, out_channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        first = self.convs[0](x)
        parts = [first, *(conv(first) for conv in self.convs[1:4])]
        parts.append(self.convs[4](parts[-1]))
        return self.conv(torch.cat(parts, dim=1))


@MODELS.register_module()
class EfficientPSHead(BaseModule):
    """Decode a four-level pyramid into class logits.

    EfficientPS (arXiv:2004.02307), section 3.2: dense prediction cells on the two coarse levels,
    separable convolutions on the two fine ones, mismatch correction in between. Names of the
    parameters are those of the released checkpoints.

    Differences from the original: output cells beyond the image (levels of ``ceil(size /
    stride)`` cells) are cropped by whoever uses the logits instead of being squeezed into it.

    Args:
        num_classes (int): Number of classes C.
        in_channels (int): Width of the pyramid.
        channels (int): Width of the four branches.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        loss (dict | None): Config of the loss; hard mining of a quarter of each image by default.
        init_cfg (dict | list | None): Initialisation; Xavier (uniform) by default.
    """

    num_levels = 4
    stride = 4

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        channels: int = 128,
        norm_cfg: dict | None = None,
        loss: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        xavier = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}
        super().__init__(xavier if init_cfg is None else init_cfg)
        options = {"norm_cfg": norm_cfg or abn_norm(), "act_cfg": abn_act()}
        self.num_classes = num_classes
        self.lateral_convs_ss = nn.ModuleList(
            DensePredictionCell(in_channels, channels, options) for _ in range(2)
        )
        self.lateral_convs_ls = nn.ModuleList(
            SeparablePair(in_channels, channels, options) for _ in range(2)
        )
        self.aligning_convs = nn.ModuleList(
            SeparablePair(channels, channels, options, upsample=True) for _ in range(2)
        )
        self.conv_logits = nn.Conv2d(self.num_levels * channels, num_classes, 1)
        self.loss = MODELS.build(loss or _default_loss())

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute logits.

        Args:
            feats (Sequence[Tensor]): At least four levels ``(N, in_channels, H / stride, W /
                stride)`` of the strides 4, 8, 16, 32; further ones are not used.

        Returns:
            Tensor: ``(N, C, h, w)`` at stride 4.
        """
        x4, x8, x16, x32 = feats[: self.num_levels]
        f32 = self.lateral_convs_ss[0](x32)
        f16 = self.lateral_convs_ss[1](x16)
        aligned = self.aligning_convs[0](f16 + _resize_like(f32, f16))
        f8 = self.lateral_convs_ls[0](x8)
        f8 = f8 + _resize_like(aligned, f8)
        aligned = self.aligning_convs[1](f8)
        f4 = self.lateral_convs_ls[1](x4)
        f4 = f4 + _resize_like(aligned, f4)
        return self._classify((f4, f8, f16, f32))

    def _classify(self, branches: Sequence[Tensor]) -> Tensor:
        """Apply the 1x1 convolution to the branches, resized to the first and concatenated.

        Both are linear and act on different axes: classifying each branch at its own resolution
        and adding gives the same logits from maps of C instead of ``channels`` channels.
        """
        weights = self.conv_logits.weight.chunk(len(branches), dim=1)
        bias = self.conv_logits.bias
        logits = functional.conv2d(branches[0], weights[0], bias)
        for branch, weight in zip(branches[1:], weights[1:], strict=True):
            logits = logits + _resize_like(functional.conv2d(branch, weight), logits)
        return logits

    def loss_by_feat(self, outputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            outputs (Tensor): From :meth:`forward`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_sem_seg``.

        Returns:
            dict[str, Tensor]: ``loss_semantic``.
        """
        target = torch.cat([sample.gt_sem_seg.sem_seg for sample in batch_data_samples])
        return {"loss_semantic": self.loss(outputs, target, stride=self.stride)}


def _default_loss() -> dict[str, Any]:
    return {"type": "HardPixelMiningLoss", "top_k": 0.25, "mining": "image", "round_up": True}


def _resize_like(x: Tensor, like: Tensor) -> Tensor:
    return resize_bilinear(x, (like.shape[-2], like.shape[-1]))
