"""Relation head of RAP: one number per instance, its rank in depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS

CONV_INIT = {"type": "Kaiming", "layer": "Conv2d", "mode": "fan_out", "bias": 0}
FC_INIT = {
    "type": "Kaiming",
    "layer": "Linear",
    "a": 1,
    "mode": "fan_in",
    "nonlinearity": "leaky_relu",
    "distribution": "uniform",
    "bias": 0,
}
"""Caffe2's initialisation of fully connected layers."""


def make_convs(in_channels: int, channels: int) -> nn.ModuleList:
    """Make four 3x3 convolutions with bias, the last of stride 2."""
    return nn.ModuleList(
        nn.Conv2d(width, channels, 3, stride, 1)
        for width, stride in ((in_channels, 1), (channels, 1), (channels, 1), (channels, 2))
    )


@MODELS.register_module()
class RelationHead(BaseModule):
    """Rank instances in depth: the smaller of two values lies in front.

    RAP, relation-aware head: four 3x3 convolutions, of which the last halves the size, a fully
    connected layer, each with ReLU, and one output without activation. There is no interaction
    between instances.

    Args:
        in_channels (int): Channels of the pooled features; the mask is one more.
        channels (int): Width of the convolutions.
        fc_channels (int): Width of the fully connected layer.
        roi_feat_size (int): Height and width of the pooled features, even.
        loss (dict | None): Config of the loss; :class:`PairwiseRankingLoss` by default.
        init_cfg (dict | list | None): Initialisation; the published one by default.
    """

    def __init__(
        self,
        in_channels: int = 256,
        channels: int = 256,
        fc_channels: int = 1024,
        roi_feat_size: int = 14,
        loss: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        last = {"type": "Normal", "std": 0.01, "bias": 0, "override": {"name": "predictor"}}
        super().__init__(init_cfg or [CONV_INIT, FC_INIT, last])
        self.convs = make_convs(in_channels + 1, channels)
        self.fc = nn.Linear(channels * (roi_feat_size // 2) ** 2, fc_channels)
        self.predictor = nn.Linear(fc_channels, 1)
        self.loss_relation = MODELS.build(loss or {"type": "mmpanoptic.PairwiseRankingLoss"})

    def forward(self, x: Tensor) -> Tensor:
        """Rank instances.

        Args:
            x (Tensor): ``(K, C + 1, h, w)``, pooled features and mask.

        Returns:
            Tensor: ``(K,)``.
        """
        return self.predictor(functional.relu(self.fc(self.features(x))))[:, 0]

    def features(self, x: Tensor) -> Tensor:
        """Run the convolutions: ``(K, C + 1, h, w)`` to ``(K, channels * h / 2 * w / 2)``."""
        for conv in self.convs:
            x = functional.relu(conv(x))
        return x.flatten(1)

    def loss(self, x: Tensor, relations: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            x (Tensor): ``(P, C + 1, h, w)``, proposals of all images, image by image.
            relations (Sequence[Tensor]): bool ``(P_i, P_i)`` of each image; entry (i, j): the
                first one's instance lies in front of the second one's.

        Returns:
            dict[str, Tensor]: ``loss_relation``.
        """
        # Most proposals are in no pair: the others' values need not be known.
        involved = torch.cat([one.any(0) | one.any(1) for one in relations])
        values = x.new_zeros(len(x), dtype=torch.float32)
        values = values.index_put((involved,), self(x[involved]).float())
        parts = values.split([len(one) for one in relations])
        return {"loss_relation": self.loss_relation(parts, relations)}
