"""Semantic head of Panoptic FPN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.models.layers import resize_bilinear
from mmpanoptic.models.postprocess import check_pad_handling
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import IGNORE_LABEL


@MODELS.register_module()
class PanopticFPNSemanticHead(BaseModule):
    """Bring every level of the pyramid to the finest one, add them up and classify.

    Panoptic FPN (arXiv:1901.02446), section 3.2, by default as RAP extends it: five levels instead
    of four, convolutions with bias, upsampling with aligned corners; the loss at full resolution.

    The channels are void, the stuff classes in the order of ``stuff_labels``, and one for all
    things together. Void is never a target; training only ever pushes it down.

    Args:
        stuff_labels (Sequence[int]): Contiguous labels of the stuff classes.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        in_channels (int): Channels of each level.
        channels (int): Width of the branches.
        num_levels (int): Levels of the pyramid, each of half the size of the one before; coarser
            ones that the neck gives are not used.
        norm_cfg (dict | None): Config of the norm layers; GN with 32 groups by default.
        conv_bias (bool): Convolutions before norm layers have a bias; in mmdet and detectron2 they
            have none.
        align_corners (bool): Align corner pixels when enlarging; mmdet and detectron2 align pixel
            areas. The fusion head must do the same.
        pad_handling (str): What becomes of the padding of a batch. "crop" leaves it out. "squash"
            resizes the padded map to the size of the image without padding, which shifts it by up
            to the padding; RAP's published weights were trained and tested like this.
        loss_weight (float): Weight of the loss.
        stride (int): Of the finest level; 2 for objects of few pixels. The fusion head must have
            the same.
        init_cfg (dict | list | None): Initialisation; PyTorch's own by default.

    Raises:
        ValueError: If ``pad_handling`` is unknown.
    """

    def __init__(
        self,
        stuff_labels: Sequence[int],
        thing_labels: Sequence[int],
        in_channels: int = 256,
        channels: int = 128,
        num_levels: int = 5,
        norm_cfg: dict | None = None,
        conv_bias: bool = True,
        align_corners: bool = True,
        pad_handling: str = "crop",
        loss_weight: float = 0.5,
        stride: int = 4,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "GN", "num_groups": 32}
        check_pad_handling(pad_handling)
        self.branches: Any = nn.ModuleList(
            _make_branch(max(level, 1), in_channels, channels, norm_cfg, conv_bias)
            for level in range(num_levels)
        )
        self.conv_logits = nn.Conv2d(channels, len(stuff_labels) + 2, 1)
        self.align_corners = align_corners
        self.pad_handling = pad_handling
        self.loss_weight = loss_weight
        self.stride = stride
        self.register_buffer(
            "channel_of_label", _channel_table(stuff_labels, thing_labels), persistent=False
        )

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute logits.

        Args:
            feats (Sequence[Tensor]): Levels ``(N, C, h, w)``, fine to coarse.

        Returns:
            Tensor: ``(N, stuff + 2, h, w)`` at ``self.stride``.

        Raises:
            ValueError: If there are fewer levels than branches.
        """
        if len(feats) < len(self.branches):
            raise ValueError(
                f"this head has num_levels={len(self.branches)}, but the neck gives {len(feats)}"
            )
        size = (feats[0].shape[-2], feats[0].shape[-1])
        total: Any = 0
        for level, (branch, x) in enumerate(zip(self.branches, feats, strict=False)):
            for conv in branch:
                x = conv(x)
                if level:
                    double = (2 * x.shape[-2], 2 * x.shape[-1])
                    x = resize_bilinear(x, double, self.align_corners)
            # A level whose size was rounded up comes out larger than the finest one.
            total = total + resize_bilinear(x, size, self.align_corners)
        return self.conv_logits(total)

    def loss_by_feat(self, outputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Compute the mean cross entropy over the labelled pixels of the batch.

        Args:
            outputs (Tensor): From :meth:`forward`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_sem_seg`` padded to the size of
                the batch, and metainfo ``img_shape``, the size without padding.

        Returns:
            dict[str, Tensor]: ``loss_semantic``; 0 without labelled pixels.
        """
        size = (outputs.shape[-2] * self.stride, outputs.shape[-1] * self.stride)
        logits = resize_bilinear(outputs.float(), size, self.align_corners)
        total, count = logits.new_zeros(()), logits.new_zeros(())
        for one, sample in zip(logits, batch_data_samples, strict=True):
            label = self.channel_of_label[sample.gt_sem_seg.sem_seg]
            height, width = sample.metainfo["img_shape"][:2]
            label = label[:, :height, :width]
            if self.pad_handling == "squash":
                one = resize_bilinear(one[None], (height, width), self.align_corners)
            else:
                one = one[None, :, :height, :width]
            total = total + functional.cross_entropy(one, label, ignore_index=0, reduction="sum")
            count = count + (label != 0).sum()
        return {"loss_semantic": self.loss_weight * total / count.clamp(min=1)}


def _make_branch(
    count: int, in_channels: int, channels: int, norm_cfg: dict, bias: bool
) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(channels if index else in_channels, channels, 3, padding=1, bias=bias),
            build_norm_layer(norm_cfg, channels)[1],
            nn.ReLU(inplace=True),
        )
        for index in range(count)
    )


def _channel_table(stuff_labels: Sequence[int], thing_labels: Sequence[int]) -> Tensor:
    """Tabulate the channel of each label; 0 is void."""
    table = torch.zeros(max(*stuff_labels, *thing_labels, IGNORE_LABEL) + 1, dtype=torch.int64)
    table[list(thing_labels)] = len(stuff_labels) + 1
    table[list(stuff_labels)] = torch.arange(1, len(stuff_labels) + 1)
    return table
