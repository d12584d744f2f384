"""Region proposal network of the EfficientPS paper."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import DepthwiseSeparableConvModule
from mmdet.models.dense_heads import RPNHead
from torch import Tensor, nn

from mmpanoptic.models.layers.inplace_abn import abn_act, abn_norm
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SeparableRPNHead(RPNHead):
    """Propose boxes from a separable convolution with batch norm and LeakyReLU(0.01).

    EfficientPS (arXiv:2004.02307), section 3.3. The authors' config, and so the released weights,
    have the ordinary ``mmdet.RPNHead``.

    Args:
        in_channels (int): Channels of the pyramid.
        feat_channels (int): Width of the convolution.
        anchor_generator (dict): Config of the anchors.
        bbox_coder (dict): Config of the box coder.
        loss_cls (dict): Config of the loss of objectness.
        loss_bbox (dict): Config of the loss of the boxes.
        train_cfg (dict | None): ``assigner``, ``sampler``, ``allowed_border``, ``pos_weight``.
        test_cfg (dict | None): ``nms_pre``, ``max_per_img``, ``nms``, ``min_bbox_size``.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        init_cfg (dict | list | None): Initialisation; normal with deviation 0.01 by default.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        anchor_generator: dict,
        bbox_coder: dict,
        loss_cls: dict,
        loss_bbox: dict,
        train_cfg: Any = None,
        test_cfg: Any = None,
        norm_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        self.conv_options = {"norm_cfg": norm_cfg or abn_norm(), "act_cfg": abn_act()}
        super().__init__(
            in_channels=in_channels,
            num_classes=1,
            feat_channels=feat_channels,
            anchor_generator=anchor_generator,
            bbox_coder=bbox_coder,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg or {"type": "Normal", "layer": "Conv2d", "std": 0.01},
        )

    def _init_layers(self) -> None:
        self.rpn_conv = DepthwiseSeparableConvModule(
            self.in_channels, self.feat_channels, 3, padding=1, **self.conv_options
        )
        outputs = self.num_base_priors * self.cls_out_channels
        self.rpn_cls = nn.Conv2d(self.feat_channels, outputs, 1)
        deltas = self.num_base_priors * self.bbox_coder.encode_size
        self.rpn_reg = nn.Conv2d(self.feat_channels, deltas, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the head on one level.

        Args:
            x (Tensor): ``(N, in_channels, h, w)``.

        Returns:
            tuple[Tensor, Tensor]: Objectness logits ``(N, A, h, w)`` and deltas
            ``(N, 4 A, h, w)``.
        """
        x = self.rpn_conv(x)
        return self.rpn_cls(x), self.rpn_reg(x)
