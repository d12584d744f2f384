"""Decoder of DeepLabV3+ with its atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn
from torch.nn import functional

from .resize import resize_bilinear
from .separable import init_decoder_convs, make_fuse_convs


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


class DeepLabDecoder(nn.Module):
    """ASPP on the coarsest level, then project, enlarge, concatenate and fuse level by level.

    Args:
        in_channels (Sequence[int]): Channels of the levels, fine to coarse.
        in_strides (Sequence[int]): Strides of the levels, fine to coarse.
        project_channels (Sequence[int]): Channels of the 1x1 projections of all levels but the
            coarsest, fine to coarse.
        channels (int): Channels of the decoder and of its output.
        aspp_channels (int): Channels of the ASPP.
        aspp_dilations (Sequence[int]): Dilations of the ASPP.
        aspp_dropout (float): Dropout ratio after the ASPP.
        pool_crop_size (Sequence[int] | None): Height and width in pixels of the image of the
            training crop, which is the window of the image pooling; None pools globally.
        separable (bool): "dsconv" instead of "conv" flavour.
        norm_cfg (dict | None): Config of the norm layers; BN by default.

    Attributes:
        out_channels (int): Channels of the output.
        out_stride (int): Stride of the output.

    Raises:
        ValueError: If the lengths of the sequences do not fit, or ``pool_crop_size`` is no
            multiple of the coarsest stride.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (4, 8, 16),
        project_channels: Sequence[int] = (32, 64),
        channels: int = 256,
        aspp_channels: int = 256,
        aspp_dilations: Sequence[int] = (6, 12, 18),
        aspp_dropout: float = 0.1,
        pool_crop_size: Sequence[int] | None = None,
        separable: bool = False,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or {"type": "BN"}
        _check_levels(in_channels, in_strides, project_channels)
        self.aspp = ASPP(
            in_channels[-1],
            aspp_channels,
            aspp_dilations,
            _pool_window(pool_crop_size, in_strides[-1]),
            separable,
            aspp_dropout,
            norm_cfg,
        )
        self.projects = nn.ModuleList()
        self.fuses = nn.ModuleList()
        for level, width in enumerate(project_channels):
            self.projects.append(ConvModule(in_channels[level], width, 1, norm_cfg=norm_cfg))
            coarser = aspp_channels if level == len(project_channels) - 1 else channels
            self.fuses.append(
                make_fuse_convs(width + coarser, channels, channels, separable, norm_cfg)
            )
        self.out_channels = channels if project_channels else aspp_channels
        self.out_stride = in_strides[0]

    def init_weights(self) -> None:
        """Initialise all convolutions as the published training does."""
        init_decoder_convs(self)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Decode the levels.

        Args:
            feats (Sequence[Tensor]): ``(N, C, H / stride, W / stride)``, fine to coarse.

        Returns:
            Tensor: ``(N, out_channels, h, w)`` at the finest level's size.
        """
        y = self.aspp(feats[-1])
        for level in range(len(self.projects) - 1, -1, -1):
            fine = self.projects[level](feats[level])
            y = resize_bilinear(y, (fine.shape[2], fine.shape[3]))
            y = self.fuses[level](torch.cat([fine, y], dim=1))
        return y


def _check_levels(
    in_channels: Sequence[int], in_strides: Sequence[int], project_channels: Sequence[int]
) -> None:
    levels = len(in_channels)
    if len(in_strides) != levels or len(project_channels) != levels - 1:
        raise ValueError(
            f"DeepLabDecoder: {levels} in_channels need {levels} in_strides and {levels - 1} "
            f"project_channels, got {list(in_strides)} and {list(project_channels)}"
        )
    if list(in_strides) != sorted(in_strides):
        raise ValueError(f"DeepLabDecoder: levels go from fine to coarse, got {list(in_strides)}")


def _pool_window(crop_size: Sequence[int] | None, stride: int) -> tuple[int, int] | None:
    if crop_size is None:
        return None
    height, width = crop_size
    if height % stride or width % stride:
        raise ValueError(
            f"DeepLabDecoder: pool_crop_size {list(crop_size)} must be a multiple of the coarsest "
            f"stride {stride}; choose such a training crop or None for global pooling"
        )
    return height // stride, width // stride
