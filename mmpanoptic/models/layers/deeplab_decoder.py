"""The decoder of DeepLabV3+ and Panoptic-DeepLab for any number of levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from .aspp import ASPP
from .resize import resize_bilinear
from .separable import init_decoder_convs, make_fuse_convs


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
        in_strides: Sequence[int],
        project_channels: Sequence[int],
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
