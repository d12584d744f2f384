"""Atrous spatial pyramid pooling with DeepLab's windowed image pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn
from torch.nn import functional

from .resize import resize_bilinear


class ASPP(nn.Module):
    """Five parallel branches over one map: 1x1, three dilated 3x3, image pooling.

    DeepLabV3 (arXiv:1706.05587), section 3.3. The image pooling averages over the window that
    covers the whole map in training, and slides in larger maps.

    Differences from the original (detectron2's DeepLab project): a map that is smaller than the
    window, or no multiple of it, is allowed: the window is clamped to the map. The average is
    taken over columns and then over rows, which costs ``h + w`` instead of ``h * w`` sums.

    Args:
        in_channels (int): Channels of the map.
        channels (int): Channels of each branch and of the output.
        dilations (Sequence[int]): Dilations of the 3x3 branches.
        pool_window (tuple[int, int] | None): Height and width of the pooling window in cells of
            the map; the whole map if None.
        separable (bool): Depthwise-separable 3x3 convolutions.
        dropout (float): Dropout ratio after the projection.
        norm_cfg (dict): Config of the norm layers. The pooling branch has a bias instead.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        dilations: Sequence[int],
        pool_window: tuple[int, int] | None,
        separable: bool,
        dropout: float,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        conv = DepthwiseSeparableConvModule if separable else ConvModule
        self.convs = nn.ModuleList([ConvModule(in_channels, channels, 1, norm_cfg=norm_cfg)])
        for rate in dilations:
            self.convs.append(
                conv(in_channels, channels, 3, padding=rate, dilation=rate, norm_cfg=norm_cfg)
            )
        self.image_pool = ConvModule(in_channels, channels, 1, bias=True)
        self.project = ConvModule(channels * (len(dilations) + 2), channels, 1, norm_cfg=norm_cfg)
        self.pool_window = pool_window
        self.dropout = nn.Dropout(dropout)

    def _pool(self, x: Tensor) -> Tensor:
        if self.pool_window is None:
            return x.mean(dim=(2, 3), keepdim=True)
        height = min(self.pool_window[0], x.shape[2])
        width = min(self.pool_window[1], x.shape[3])
        x = functional.avg_pool2d(x, (height, 1), stride=1)
        return functional.avg_pool2d(x, (1, width), stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, channels, H, W)``."""
        branches = [conv(x) for conv in self.convs]
        pooled = self.image_pool(self._pool(x))
        branches.append(resize_bilinear(pooled, (x.shape[2], x.shape[3])))
        return self.dropout(self.project(torch.cat(branches, dim=1)))
