"""Semantic head of Panoptic-DeepLab and DeepLabV3+."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.models.layers import DeepLabDecoder, collate_segments, make_fuse_convs
from mmpanoptic.registry import MODELS

from .semantic_targets import make_semantic_targets


@MODELS.register_module()
class DeepLabHead(BaseModule):
    """Decode features into class logits at the stride of the finest level.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.1.

    Args:
        num_classes (int): Number of classes.
        head_channels (int | None): Width before the predictor; None puts the predictor right
            behind the decoder (DeepLabV3+).
        separable (bool): Depthwise-separable 5x5 convolutions ("dsconv").
        head_separable (bool | None): The same for the convolutions behind the decoder; None takes
            ``separable`` (Panoptic-DeepLab), COPS has regular ones.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        loss (dict | None): Config of the loss; hard pixel mining of 20 % by default.
        small_instance_area (int): Things with fewer pixels weigh more; 0 turns it off.
        small_instance_weight (float): Weight of their pixels.
        small_crowds (bool): Crowds count as small things, too.
        ignore_crowd (bool): Leave crowds out of the semantic loss.
        init_cfg (dict | list | None): Initialisation; by default the predictor is normal with
            standard deviation 0.001 and the rest as :func:`init_decoder_convs` says.
        **decoder: Further arguments of :class:`DeepLabDecoder`, such as ``in_channels``.
    """

    def __init__(
        self,
        num_classes: int,
        head_channels: int | None = 256,
        separable: bool = False,
        head_separable: bool | None = None,
        norm_cfg: dict | None = None,
        loss: dict | None = None,
        small_instance_area: int = 4096,
        small_instance_weight: float = 3.0,
        small_crowds: bool = True,
        ignore_crowd: bool = False,
        init_cfg: Any = None,
        **decoder: Any,
    ) -> None:
        predictor_init = {"type": "Normal", "std": 0.001, "override": {"name": "predictor"}}
        super().__init__(predictor_init if init_cfg is None else init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.decoder = DeepLabDecoder(separable=separable, norm_cfg=norm_cfg, **decoder)
        width = self.decoder.out_channels
        self.head: nn.Module = nn.Identity()
        if head_channels is not None:
            if head_separable is None:
                head_separable = separable
            self.head = make_fuse_convs(width, width, head_channels, head_separable, norm_cfg)
            width = head_channels
        self.predictor = nn.Conv2d(width, num_classes, 1)
        self.stride = self.decoder.out_stride
        self.num_classes = num_classes
        self.loss = MODELS.build(loss or {"type": "HardPixelMiningLoss"})
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.small_crowds = small_crowds
        self.ignore_crowd = ignore_crowd

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute logits.

        Args:
            feats (Sequence[Tensor]): Levels ``(N, C, H / stride, W / stride)``, fine to coarse.

        Returns:
            Tensor: ``(N, num_classes, h, w)`` at ``self.stride``.
        """
        return self.predictor(self.head(self.decoder(feats)))

    def loss_by_feat(self, outputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            outputs (Tensor): From :meth:`forward`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_panoptic_seg``, or with
                ``gt_sem_seg`` alone if neither small instances nor crowds are treated specially.

        Returns:
            dict[str, Tensor]: ``loss_semantic``.
        """
        if self.small_instance_area or self.ignore_crowd:
            segments = collate_segments(batch_data_samples)
            target, weight = make_semantic_targets(
                segments,
                self.small_instance_area,
                self.small_instance_weight,
                self.ignore_crowd,
                self.small_crowds,
            )
        else:
            target = torch.cat([sample.gt_sem_seg.sem_seg for sample in batch_data_samples])
            weight = None
        return {"loss_semantic": self.loss(outputs, target, weight, self.stride)}
