"""Mask head of Auto-Panoptic."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.roi_heads.mask_heads import FCNMaskHead

from mmpanoptic.models.layers.head_ops import HEAD_OPS, make_head_layers
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SearchableMaskHead(FCNMaskHead):
    """Mask R-CNN's mask head with searchable layers before the deconvolution.

    Auto-Panoptic (arXiv:2010.16119), section 3.2.

    Differences from the original (``mmdet.FCNMaskHead``): the layers have a norm and one of
    several operations each.

    Args:
        num_classes (int): Number of thing classes.
        in_channels (int): Channels of the pooled features.
        channels (int): Width of the layers and of the deconvolution.
        num_layers (int): Number of searchable layers.
        choices (Sequence[int] | None): Number of each layer's operation; None builds a supernet
            (decisions ``mask.0``, ``mask.1``...).
        ops (Sequence[str]): The operations to choose from: "DWConv3x3", "DWConv5x5",
            "DFConv3x3", "DFConv5x5", "ATConv3x3", "ATConv5x5".
        norm_cfg (dict | None): Config of the norm layers; GN with 32 groups by default.
        loss_mask (dict | None): Config of the loss; binary cross entropy by default.

    Raises:
        ValueError: If an operation is unknown, or the choices do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        channels: int = 256,
        num_layers: int = 4,
        choices: Sequence[int] | None = None,
        ops: Sequence[str] = HEAD_OPS,
        norm_cfg: dict | None = None,
        loss_mask: dict | None = None,
    ) -> None:
        super().__init__(
            num_convs=0,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=num_classes,
            loss_mask=loss_mask or {"type": "mmdet.CrossEntropyLoss", "use_mask": True},
        )
        widths = [in_channels] + [channels] * num_layers
        norm_cfg = norm_cfg or {"type": "GN", "num_groups": 32}
        self.convs = make_head_layers("mask", widths, choices, ops, norm_cfg)
