"""Choice of the pyramid level by Detectron's rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mmpanoptic.models.task_modules import inclusive_area
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class DetectronRoIExtractor(SingleRoIExtractor):
    """Pool each box from one level of the pyramid, chosen by its area with inclusive ends.

    Differences from the original (``mmdet.SingleRoIExtractor``): the area counts both ends (+1),
    and the constant against log2(0) is added at the scale of the canonical box.

    Args:
        roi_layer (dict): Config of the pooling; published weights expect ``mmcv.RoIAlign`` with
            ``sampling_ratio=2, aligned=False``.
        out_channels (int): Channels of the features.
        featmap_strides (Sequence[int]): Pixels per cell of the levels in use.
        canonical_size (int): Side of the square box that belongs to ``canonical_level``.
        canonical_level (int): Position of its level in ``featmap_strides``.
        init_cfg (dict | list | None): Initialisation.
    """

    def __init__(
        self,
        roi_layer: dict,
        out_channels: int,
        featmap_strides: Sequence[int],
        canonical_size: int = 224,
        canonical_level: int = 2,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(roi_layer, out_channels, list(featmap_strides), init_cfg=init_cfg)
        self.canonical_size = canonical_size
        self.canonical_level = canonical_level

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """Choose the level of each box.

        Args:
            rois (Tensor): ``(K, 5)``: image, x0, y0, x1, y1.
            num_levels (int): Number of levels.

        Returns:
            Tensor: int64 ``(K,)``, 0 is the finest level.
        """
        side = inclusive_area(rois[:, 1:]).sqrt()
        level = self.canonical_level + torch.log2(side / self.canonical_size + 1e-6)
        return level.floor().clamp(0, num_levels - 1).long()
