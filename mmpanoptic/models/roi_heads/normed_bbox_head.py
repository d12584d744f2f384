"""Box head with norm layers between its fully connected layers."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from torch import nn

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class NormedFCBBoxHead(Shared2FCBBoxHead):
    """Two fully connected layers with norm and ReLU, then classes and boxes.

    Auto-Panoptic (arXiv:2010.16119) takes GN with 32 groups.

    Differences from the original (``mmdet.Shared2FCBBoxHead``): a norm layer follows each fully
    connected layer, which has no bias; these start uniform by Kaiming's rule with a = 1.

    Args:
        num_classes (int): Number of thing classes.
        bbox_coder (dict): Config of the box coder.
        in_channels (int): Channels of the pooled features.
        fc_out_channels (int): Width of the layers.
        roi_feat_size (int): Cells of the pooled features along one side.
        norm_cfg (dict | None): Config of the norm layers; GN with 32 groups by default.
        loss_cls (dict | None): Config of the loss of the classes; cross entropy by default.
        loss_bbox (dict | None): Config of the loss of the boxes; smooth L1 with beta 1 by default.
    """

    shared_fcs: nn.ModuleList

    def __init__(
        self,
        num_classes: int,
        bbox_coder: dict,
        in_channels: int = 256,
        fc_out_channels: int = 1024,
        roi_feat_size: int = 7,
        norm_cfg: dict | None = None,
        loss_cls: dict | None = None,
        loss_bbox: dict | None = None,
    ) -> None:
        super().__init__(
            fc_out_channels=fc_out_channels,
            in_channels=in_channels,
            roi_feat_size=roi_feat_size,
            num_classes=num_classes,
            bbox_coder=bbox_coder,
            cls_predictor_cfg={"type": "mmdet.Linear"},
            reg_predictor_cfg={"type": "mmdet.Linear"},
            loss_cls=loss_cls or {"type": "mmdet.CrossEntropyLoss"},
            loss_bbox=loss_bbox or {"type": "mmdet.SmoothL1Loss", "beta": 1.0},
            init_cfg=[
                {"type": "Normal", "std": 0.01, "override": {"name": "fc_cls"}},
                {"type": "Normal", "std": 0.001, "override": {"name": "fc_reg"}},
            ],
        )
        norm: dict[str, Any] = norm_cfg or {"type": "GN", "num_groups": 32}
        plain: Any = self.shared_fcs
        layers = [nn.Linear(fc.in_features, fc.out_features, bias=False) for fc in plain]
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, a=1)
        self.shared_fcs = nn.ModuleList(
            nn.Sequential(layer, build_norm_layer(norm, layer.out_features)[1]) for layer in layers
        )
