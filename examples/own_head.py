"""A semantic head of one's own; docs/tutorials/own_head.md walks through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SumHead(BaseModule):
    """Bring all levels to one width and size, add them, predict.

    Args:
        num_classes (int): Number of classes C.
        in_channels (Sequence[int]): Channels of the levels, fine to coarse.
        stride (int): Pixels per cell of the finest level.
        channels (int): Width of the sum.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        init_cfg (dict | None): As in mmengine.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        stride: int = 4,
        channels: int = 64,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.stride = stride
        self.levels = nn.ModuleList(
            ConvModule(width, channels, 1, norm_cfg=norm_cfg, act_cfg=None) for width in in_channels
        )
        self.fuse = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg)
        self.predictor = nn.Conv2d(channels, num_classes, 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute logits ``(N, C, H / stride, W / stride)`` from levels, fine to coarse."""
        size = feats[0].shape[-2:]
        maps = [
            functional.interpolate(level(x), size, mode="bilinear", align_corners=False)
            for level, x in zip(self.levels, feats, strict=True)
        ]
        return self.predictor(self.fuse(torch.stack(maps).sum(0).relu()))

    def loss_by_feat(self, outputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Compare logits, brought to the size of the images, with ``gt_sem_seg``; 255 is void."""
        target = torch.cat([sample.gt_sem_seg.sem_seg for sample in batch_data_samples]).long()
        logits = functional.interpolate(
            outputs.float(), target.shape[-2:], mode="bilinear", align_corners=False
        )
        return {"loss_semantic": functional.cross_entropy(logits, target, ignore_index=255)}
