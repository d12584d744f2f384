"""Mask head of EfficientPS."""

from __future__ import annotations

from mmcv.cnn import DepthwiseSeparableConvModule
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.model import ModuleList

from mmpanoptic.models.layers.inplace_abn import abn_act, abn_norm
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SeparableMaskHead(FCNMaskHead):
    """Predict one mask per class from pooled features with separable convolutions.

    EfficientPS (arXiv:2004.02307), section 3.3. Names of the parameters are those of the released
    checkpoints.

    Differences from the original (``mmdet.FCNMaskHead``): 3x3 convolutions are separable, each
    half followed by batch norm and LeakyReLU(0.01).

    Args:
        num_classes (int): Number of thing classes.
        num_convs (int): Number of convolutions.
        in_channels (int): Channels of the pooled features.
        conv_out_channels (int): Width of the convolutions.
        class_agnostic (bool): Predict one mask for all classes.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        loss_mask (dict | None): Config of the loss; binary cross entropy by default.
    """

    def __init__(
        self,
        num_classes: int,
        num_convs: int = 4,
        in_channels: int = 256,
        conv_out_channels: int = 256,
        class_agnostic: bool = False,
        norm_cfg: dict | None = None,
        loss_mask: dict | None = None,
    ) -> None:
        # The parent's own convolutions would be replaced; it is asked for none.
        super().__init__(
            num_convs=0,
            in_channels=conv_out_channels if num_convs else in_channels,
            conv_out_channels=conv_out_channels,
            num_classes=num_classes,
            class_agnostic=class_agnostic,
            loss_mask=loss_mask or {"type": "mmdet.CrossEntropyLoss", "use_mask": True},
        )
        options = {"norm_cfg": norm_cfg or abn_norm(), "act_cfg": abn_act()}
        self.convs = ModuleList(
            DepthwiseSeparableConvModule(
                conv_out_channels if number else in_channels,
                conv_out_channels,
                3,
                padding=1,
                **options,
            )
            for number in range(num_convs)
        )
        self.num_convs = num_convs
        self.in_channels = in_channels
