"""Semantic branch of Auto-Panoptic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.models.layers import resize_bilinear
from mmpanoptic.models.layers.head_ops import HEAD_OPS, make_head_layers
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import IGNORE_LABEL


@MODELS.register_module()
class SearchableSemanticHead(BaseModule):
    """Run searchable layers on every level, add the levels' logits at the finest one.

    Auto-Panoptic (arXiv:2010.16119), section 3.2. The layers are shared by the levels. Channel 0
    stands for all things together, channel k for the k-th stuff class.

    Differences from the original: it enlarges the levels' features to the finest level,
    concatenates them and applies a 1x1 convolution. That convolution commutes with the
    enlarging, so here it runs on the small maps and only the logits are enlarged; the attention of
    the other branch is folded into its weights. Results are equal up to rounding.

    Args:
        stuff_labels (Sequence[int]): Contiguous labels of the stuff classes.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        in_channels (int): Channels of each level.
        channels (int): Width of the layers.
        num_layers (int): Number of searchable layers.
        num_levels (int): Levels in use, from the finest.
        choices (Sequence[int] | None): Number of each layer's operation; None builds a supernet
            (decisions ``semantic.0``, ``semantic.1``...).
        ops (Sequence[str]): The operations to choose from: "DWConv3x3", "DWConv5x5",
            "DFConv3x3", "DFConv5x5", "ATConv3x3", "ATConv5x5".
        norm_cfg (dict | None): Config of the norm layers; GN with 32 groups by default.
        loss_weight (float): Weight of the loss.
        init_cfg (dict | list | None): Initialisation; by default the layers' own as published,
            and PyTorch's for the classifier.

    Raises:
        ValueError: If an operation is unknown, or the choices do not fit.
    """

    stride = 4

    def __init__(
        self,
        stuff_labels: Sequence[int],
        thing_labels: Sequence[int],
        in_channels: int = 256,
        channels: int = 128,
        num_layers: int = 3,
        num_levels: int = 4,
        choices: Sequence[int] | None = None,
        ops: Sequence[str] = HEAD_OPS,
        norm_cfg: dict | None = None,
        loss_weight: float = 0.3,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "GN", "num_groups": 32}
        widths = [in_channels] + [channels] * num_layers
        self.layers = make_head_layers("semantic", widths, choices, ops, norm_cfg)
        self.score: Any = nn.Conv2d(num_levels * channels, len(stuff_labels) + 1, 1)
        self.channels = channels
        self.num_levels = num_levels
        self.loss_weight = loss_weight
        table = torch.full((max(*stuff_labels, *thing_labels, IGNORE_LABEL) + 1,), IGNORE_LABEL)
        table[list(thing_labels)] = 0
        table[list(stuff_labels)] = torch.arange(1, len(stuff_labels) + 1)
        self.register_buffer("channel_of_label", table, persistent=False)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute logits without attention of another branch.

        Args:
            feats (Sequence[Tensor]): Levels ``(N, C, h, w)``, fine to coarse; more than
                ``num_levels`` are ignored.

        Returns:
            Tensor: ``(N, stuff + 1, h, w)`` at ``self.stride``.
        """
        return self.classify(self.extract(feats))

    def extract(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """Run the layers on every level.

        Args:
            feats (Sequence[Tensor]): As in :meth:`forward`.

        Returns:
            list[Tensor]: ``(N, channels, h, w)`` of each level at its own size.

        Raises:
            ValueError: If there are fewer levels than ``num_levels``.
        """
        if len(feats) < self.num_levels:
            raise ValueError(
                f"SearchableSemanticHead: num_levels is {self.num_levels}, got {len(feats)} levels"
            )
        levels = []
        for x in feats[: self.num_levels]:
            for layer in self.layers:
                x = layer(x)
            levels.append(x)
        return levels

    def classify(
        self, levels: Sequence[Tensor], attention: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Turn the features of all levels into logits.

        Args:
            levels (Sequence[Tensor]): From :meth:`extract`.
            attention (Sequence[Tensor] | None): Weights g ``(N, channels)`` of each level, whose
                features x become ``x + g x``; None for none.

        Returns:
            Tensor: ``(N, stuff + 1, h, w)`` at the size of the finest level.
        """
        size = (levels[0].shape[2], levels[0].shape[3])
        kernels = self.score.weight.flatten(1).split(self.channels, 1)
        total: Any = None
        for i, (x, kernel) in enumerate(zip(levels, kernels, strict=True)):
            if attention is not None:
                kernel = kernel * (1 + attention[i])[:, None].to(kernel.dtype)
            logits = (kernel @ x.flatten(2)).unflatten(2, tuple(x.shape[2:]))
            logits = resize_bilinear(logits, size, align_corners=True)
            total = logits if total is None else total + logits
        return total + self.score.bias[:, None, None]

    def loss_by_feat(self, outputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Compute the mean cross entropy over the labelled pixels of the batch.

        Args:
            outputs (Tensor): From :meth:`forward` or :meth:`classify`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_sem_seg`` padded to the size
                of the batch, and metainfo ``img_shape``, the size without padding.

        Returns:
            dict[str, Tensor]: ``loss_semantic``; 0 without labelled pixels.
        """
        size = (outputs.shape[2] * self.stride, outputs.shape[3] * self.stride)
        total = outputs.new_zeros((), dtype=torch.float32)
        count = outputs.new_zeros((), dtype=torch.int64)
        for logits, sample in zip(outputs.float(), batch_data_samples, strict=True):
            height, width = sample.metainfo["img_shape"][:2]
            full = resize_bilinear(logits[None], size, align_corners=True)
            label = self.channel_of_label[sample.gt_sem_seg.sem_seg.long()][:, :height, :width]
            total = total + functional.cross_entropy(
                full[..., :height, :width], label, ignore_index=IGNORE_LABEL, reduction="sum"
            )
            count = count + (label != IGNORE_LABEL).sum()
        return {"loss_semantic": self.loss_weight * total / count.clamp(min=1)}
