"""Occlusion head of OCFusion: for an ordered pair, whether the first lies on the second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.registry import MODELS

from .relation_head import CONV_INIT, FC_INIT, make_convs


@MODELS.register_module()
class OcclusionHead(BaseModule):
    """Decide for an ordered pair of instances whether the first lies on the second.

    OCFusion (arXiv:1906.05896), as RAP implements it: the features of both are stacked and go
    through four 3x3 convolutions, of which the last halves the size, and two fully connected
    layers.

    Differences from the original: its training crashes and this one's does not; an image with more
    pairs than are drawn counts by those that are drawn; the first convolution is computed once per
    instance and place in the pair, not once per pair (it is linear).

    Args:
        in_channels (int): Channels of the pooled features; the mask is one more.
        channels (int): Width of the convolutions.
        fc_channels (int): Width of the fully connected layer.
        roi_feat_size (int): Height and width of the pooled features, even.
        max_samples (int): Ordered pairs of an image that are trained on; more are drawn from.
        pairs_per_batch (int): Ordered pairs that are evaluated together in inference.
        loss_weight (float): Factor of the loss.
        init_cfg (dict | list | None): Initialisation; the published one by default.
    """

    def __init__(
        self,
        in_channels: int = 256,
        channels: int = 512,
        fc_channels: int = 1024,
        roi_feat_size: int = 14,
        max_samples: int = 128,
        pairs_per_batch: int = 64,
        loss_weight: float = 1.0,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or [CONV_INIT, FC_INIT])
        self.convs = make_convs(2 * (in_channels + 1), channels)
        self.fc = nn.Linear(channels * (roi_feat_size // 2) ** 2, fc_channels)
        self.predictor = nn.Linear(fc_channels, 1)
        self.max_samples = max_samples
        self.pairs_per_batch = pairs_per_batch
        self.loss_weight = loss_weight

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what each instance adds to the first convolution.

        Args:
            x (Tensor): ``(K, C + 1, h, w)``, pooled features and mask.

        Returns:
            tuple[Tensor, Tensor]: As first (with the bias) and as second of a pair, both
            ``(K, channels, h, w)``.
        """
        conv: Any = self.convs[0]
        first, second = conv.weight.chunk(2, 1)
        x = x.to(first.dtype)  # pooled in float32, whatever the model computes in
        return (
            functional.conv2d(x, first, conv.bias, conv.stride, conv.padding),
            functional.conv2d(x, second, None, conv.stride, conv.padding),
        )

    def forward_pairs(self, halves: tuple[Tensor, Tensor], pairs: Tensor) -> Tensor:
        """Compute the logits of ordered pairs.

        Args:
            halves (tuple[Tensor, Tensor]): From :meth:`halves`.
            pairs (Tensor): int64 ``(P, 2)``.

        Returns:
            Tensor: ``(P,)``.
        """
        x = functional.relu(halves[0][pairs[:, 0]] + halves[1][pairs[:, 1]])
        for conv in self.convs[1:]:
            x = functional.relu(conv(x))
        return self.predictor(functional.relu(self.fc(x.flatten(1))))[:, 0]

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        """Compute the probability that the first of a pair lies on the second.

        Args:
            x (Tensor): ``(K, C + 1, h, w)``, pooled features and mask.
            pairs (Tensor): int64 ``(P, 2)``, positions in ``x``.

        Returns:
            Tensor: float32 ``(P,)``.
        """
        if not len(pairs):
            return x.new_zeros(0, dtype=torch.float32)
        involved, pairs = pairs.unique(return_inverse=True)
        halves = self.halves(x[involved])
        parts = [self.forward_pairs(halves, part) for part in pairs.split(self.pairs_per_batch)]
        return torch.cat(parts).float().sigmoid()

    def loss(self, x: Tensor, relations: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the loss: each related pair of proposals counts in both directions.

        Args:
            x (Tensor): ``(P, C + 1, h, w)``, proposals of all images, image by image.
            relations (Sequence[Tensor]): bool ``(P_i, P_i)`` of each image; entry (i, j): the
                first one's instance lies in front of the second one's.

        Returns:
            dict[str, Tensor]: ``loss_occlusion``; 0, still connected, without related pairs.
        """
        pairs, target = self._samples(relations)
        if not len(pairs):
            return {"loss_occlusion": sum(p.sum() for p in self.parameters()) * 0.0}
        involved, pairs = pairs.unique(return_inverse=True)
        logits = self.forward_pairs(self.halves(x[involved]), pairs).float()
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        return {"loss_occlusion": self.loss_weight * loss}

    def _samples(self, relations: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Choose ordered pairs int64 ``(S, 2)`` of proposals and their targets ``(S,)``."""
        pairs, targets, start = [], [], 0
        for one in relations:
            front = one.nonzero()
            both = torch.cat([front, front.flip(1)])
            target = torch.zeros(len(both), device=both.device)
            target[: len(front)] = 1
            if len(both) > self.max_samples:
                drawn = torch.randperm(len(both), device=both.device)[: self.max_samples]
                both, target = both[drawn], target[drawn]
            pairs.append(both + start)
            targets.append(target)
            start += len(one)
        return torch.cat(pairs), torch.cat(targets)
