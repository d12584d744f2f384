"""Two-way feature pyramid of EfficientPS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.models.layers.inplace_abn import abn_act, abn_norm
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class TwoWayFPN(BaseModule):
    """Pass features from coarse to fine and, in parallel, from fine to coarse; add both.

    EfficientPS (arXiv:2004.02307), section 3.1. Every convolution is followed by batch norm and
    LeakyReLU(0.01). Both passes resize by nearest neighbour.

    Differences from the original: the authors' code has ordinary 3x3 output convolutions where
    the paper (and its count of parameters) has separable ones; ``separable_out`` chooses.
    Levels beyond those of the backbone can be added.

    Args:
        in_channels (Sequence[int]): Channels of the backbone's levels, fine to coarse.
        out_channels (int): Width of the pyramid.
        separable_out (bool): Separable output convolutions (paper) instead of ordinary ones
            (released weights).
        num_outs (int): Number of output levels; those beyond the inputs halve the coarsest level
            by taking every second cell.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        init_cfg (dict | list | None): Initialisation; Xavier (uniform) by default.

    Raises:
        ValueError: If there are fewer outputs than inputs.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        separable_out: bool = True,
        num_outs: int = 4,
        norm_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        xavier = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}
        super().__init__(xavier if init_cfg is None else init_cfg)
        if num_outs < len(in_channels):
            raise ValueError(
                f"TwoWayFPN: {len(in_channels)} input levels give at least as many outputs, got "
                f"num_outs={num_outs}"
            )
        options = {"norm_cfg": norm_cfg or abn_norm(), "act_cfg": abn_act()}
        self.num_outs = num_outs
        self.lateral_convs_top = nn.ModuleList(
            ConvModule(channels, out_channels, 1, **options) for channels in in_channels
        )
        # From coarse to fine, as in the released checkpoints.
        self.lateral_convs_bottom = nn.ModuleList(
            ConvModule(channels, out_channels, 1, **options) for channels in reversed(in_channels)
        )
        conv = DepthwiseSeparableConvModule if separable_out else ConvModule
        self.fpn_convs = nn.ModuleList(
            conv(out_channels, out_channels, 3, padding=1, **options) for _ in in_channels
        )

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            feats (Sequence[Tensor]): Levels ``(N, C_i, H_i, W_i)``, fine to coarse.

        Returns:
            tuple[Tensor, ...]: ``num_outs`` levels ``(N, out_channels, H_i, W_i)``.
        """
        pairs = zip(self.lateral_convs_top, feats, strict=True)
        top = [conv(feat) for conv, feat in pairs]
        for i in range(len(top) - 1, 0, -1):
            top[i - 1] = top[i - 1] + _nearest(top[i], top[i - 1])
        pairs = zip(reversed(self.lateral_convs_bottom), feats, strict=True)
        bottom = [conv(feat) for conv, feat in pairs]
        for i in range(len(bottom) - 1):
            bottom[i + 1] = bottom[i + 1] + _nearest(bottom[i], bottom[i + 1])
        triples = zip(self.fpn_convs, top, bottom, strict=True)
        outs = [conv(down + up) for conv, down, up in triples]
        while len(outs) < self.num_outs:
            outs.append(functional.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


def _nearest(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``(N, C, h, w)`` to the size of another map by nearest neighbour."""
    return functional.interpolate(x, size=like.shape[-2:], mode="nearest")
