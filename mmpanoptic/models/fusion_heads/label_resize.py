"""Heuristic fusion whose semantic map is resized after the classes are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmpanoptic.models.layers import ResizedLogits
from mmpanoptic.registry import MODELS

from .heuristic import HeuristicFusionHead


@MODELS.register_module()
class LabelResizeFusionHead(HeuristicFusionHead):
    """Choose the class of each pixel of the network's input, then resize the map of classes.

    Auto-Panoptic (arXiv:2010.16119), as published: nearest neighbour as Pillow does it.
    :class:`HeuristicFusionHead` resizes logits instead; that is smoother along the borders of
    segments.

    Differences from the original: none in the numbers.

    Args:
        **options (Any): Arguments of :class:`HeuristicFusionHead`; ``pad_handling`` must be "crop".

    Raises:
        ValueError: If ``pad_handling`` is another.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.pad_handling != "crop":
            raise ValueError(
                "LabelResizeFusionHead cuts the padding off before it resizes; pad_handling must "
                f'be "crop", got {self.pad_handling!r}; HeuristicFusionHead knows others'
            )

    def semantic_channels(self, logits: Tensor, meta: Mapping[str, Any]) -> Tensor:
        """Find the channel of each pixel of the result.

        Args:
            logits (Tensor): Of one image, ``(C, h, w)``, padding included.
            meta (Mapping): ``img_shape`` and ``ori_shape``.

        Returns:
            Tensor: int64 ``(H, W)``.
        """
        height, width = (int(length) for length in meta["img_shape"][:2])
        out_height, out_width = meta.get("ori_shape", meta["img_shape"])[:2]
        # Enlarged with aligned corners; the second resizing is none.
        full = ResizedLogits(logits, self.stride, (height, width), (height, width), (True, False))
        rows = nearest_cells(height, int(out_height), logits.device)
        columns = nearest_cells(width, int(out_width), logits.device)
        return full.classes().index_select(0, rows).index_select(1, columns)


def nearest_cells(length: int, new_length: int, device: torch.device) -> Tensor:
    """Tell which entry Pillow's nearest-neighbour resizing takes at each new position.

    Args:
        length (int): Entries before.
        new_length (int): Entries after.
        device (torch.device): Of the result.

    Returns:
        Tensor: int64 ``(new_length,)``.
    """
    step = length / new_length
    steps = torch.full((new_length,), step, dtype=torch.float64)
    steps[:1] = step / 2
    # Pillow adds the step again and again, whose rounding decides where a centre lies on an edge.
    return steps.cumsum(0).long().clamp_(max=length - 1).to(device)
