"""A fusion head of one's own; docs/tutorials/own_fusion.md walks through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from torch import Tensor

from mmpanoptic.models.postprocess.resized_logits import ResizedLogits
from mmpanoptic.models.postprocess.segments import (
    list_segments,
    merge_segments,
    segment_rows,
    segment_statistics,
)
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import make_panoptic_data


@MODELS.register_module()
class ConnectedPartsHead(BaseModule):
    """Take every connected part of a thing class for one thing: no instance head is needed.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        stride (int): Pixels per cell of the semantic head's output.
        min_area (int): Parts with fewer pixels become void.
        stuff_area (int): Stuff classes with fewer pixels become void.
    """

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        stride: int = 4,
        min_area: int = 16,
        stuff_area: int = 64,
    ) -> None:
        super().__init__()
        isthing = torch.zeros(num_classes, dtype=torch.bool)
        isthing[list(thing_labels)] = True
        self.register_buffer("isthing", isthing, persistent=False)
        self.thing_labels = frozenset(thing_labels)
        self.stride = stride
        self.min_area = min_area
        self.stuff_area = stuff_area

    @torch.no_grad()
    def predict(
        self, sem_outputs: Tensor, ins_outputs: Any, batch_img_metas: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Form the results of a batch.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)``.
            ins_outputs (None): There is no instance head.
            batch_img_metas (Sequence[Mapping]): ``img_shape``, ``ori_shape`` of each image.

        Returns:
            list[dict]: ``pred_sem_seg`` and ``pred_panoptic_seg`` of each image.
        """
        return [
            self.predict_single(ResizedLogits.of_image(logits, self.stride, meta))
            for logits, meta in zip(sem_outputs, batch_img_metas, strict=True)
        ]

    def predict_single(self, logits: ResizedLogits) -> dict[str, Any]:
        """Form the result of one image from logits ``(C, H, W)`` of its size."""
        semantic = logits.classes()
        parts, number = self.number_parts(semantic)
        index_map, table = merge_segments(semantic, parts, number, self.isthing, self.stuff_area)
        found = segment_statistics(index_map, len(table.number)).of(table.number)
        score = torch.ones(len(table.number), dtype=torch.float64, device=index_map.device)
        rows = segment_rows(*table, score, found.area, found.box)
        segments = list_segments([rows], self.thing_labels)[0]
        pred_sem_seg = PixelData()
        pred_sem_seg.sem_seg = semantic[None]
        return {
            "pred_sem_seg": pred_sem_seg,
            "pred_panoptic_seg": make_panoptic_data(index_map, segments),
        }

    def number_parts(self, semantic: Tensor) -> tuple[Tensor, int]:
        """Number the connected parts of the things from 1; 0 is none. int32 ``(H, W)``."""
        classes = semantic.cpu().numpy()
        parts, number = np.zeros(classes.shape, np.int32), 0
        for label in sorted(self.thing_labels & set(np.unique(classes).tolist())):
            _, own, statistics, _ = cv2.connectedComponentsWithStats((classes == label).view("u1"))
            kept = statistics[:, cv2.CC_STAT_AREA] >= self.min_area
            kept[0] = False  # what is not of this class
            parts += np.where(kept, number + kept.cumsum(), 0).astype(np.int32)[own]
            number += int(kept.sum())
        return torch.from_numpy(parts).to(semantic.device), number
