"""Pyramid of a plain vision transformer, from its last map alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Make maps of four times, twice, one and half the resolution from one map.

    ViTDet (arXiv:2203.16527), section 3: transposed convolutions of 2x2 enlarge the map, a max pool
    halves it; each level gets a 1x1 and a 3x3 convolution, each followed by a layer norm of the
    channels of a cell. Of the map of stride 16 of a transformer with patches of 16 pixels these are
    levels of stride 4, 8, 16 and 32.

    Source: the paper. Differences from the original: none in what is computed; any number of
    further levels, each every second cell of the one before, may follow.

    Args:
        in_channels (Sequence[int] | int): Channels of the map; of a sequence, as
            ``"$feature_channels"`` is, the last one.
        out_channels (int): Width of the pyramid.
        num_outs (int): Number of levels, at least four.
        init_cfg (dict | list | None): Initialisation; PyTorch's by default.

    Raises:
        ValueError: If there are fewer than four levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int] | int,
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_outs < 4:
            raise ValueError(f"SimpleFeaturePyramid has at least 4 levels, got num_outs={num_outs}")
        width = in_channels if isinstance(in_channels, int) else in_channels[-1]
        half, quarter = width // 2, width // 4
        self.num_outs = num_outs
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, half, 2, stride=2),
                    ChannelLayerNorm(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(width, half, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2, stride=2),
            ]
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, bias=False),
                ChannelLayerNorm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                ChannelLayerNorm(out_channels),
            )
            for channels in (quarter, half, width, width)
        )

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make the pyramid.

        Args:
            feats (Sequence[Tensor]): The last one ``(N, C, H, W)`` is read.

        Returns:
            tuple[Tensor, ...]: Levels ``(N, out_channels, 4 H, 4 W)``, ``(.., 2 H, 2 W)``,
            ``(.., H, W)``, ``(.., H / 2, W / 2)`` and each further one half of that before.
        """
        source = feats[-1]
        outs = [level(scale(source)) for scale, level in zip(self.scales, self.levels, strict=True)]
        while len(outs) < self.num_outs:
            outs.append(functional.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


class ChannelLayerNorm(nn.LayerNorm):
    """Normalise the channels of each cell of a map ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x (Tensor): ``(N, C, H, W)``.

        Returns:
            Tensor: Of the same shape.
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
