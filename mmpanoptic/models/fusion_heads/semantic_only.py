"""Fusion head of models without an instance branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from torch import Tensor

from mmpanoptic.models.postprocess import ResizedLogits
from mmpanoptic.models.postprocess.augmented import MeanLogits
from mmpanoptic.models.postprocess.flips import flipped_dims
from mmpanoptic.models.postprocess.segments import (
    list_segments,
    segment_rows,
    segment_statistics,
)
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import SegmentInfo, make_panoptic_data


@MODELS.register_module()
class SemanticOnlyHead(BaseModule):
    """Take the most likely class of every pixel; a semantic model (DeepLabV3+) ends here.

    Each class that occurs also becomes one segment of ``pred_panoptic_seg``, so that the
    inferencer and the visualizer serve semantic models unchanged. Things that are several are one
    segment then; panoptic quality of such a map says little, mIoU is the measure.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        stride (int): Pixels per cell of the semantic head's output.
    """

    def __init__(self, num_classes: int, thing_labels: Sequence[int] = (), stride: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.thing_labels = frozenset(thing_labels)
        self.stride = stride

    @torch.no_grad()
    def predict(
        self, sem_outputs: Tensor, ins_outputs: Any, batch_img_metas: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Form the results of a batch, one image after the other to bound the memory.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)`` at ``stride``.
            ins_outputs (None): There is no instance head.
            batch_img_metas (Sequence[Mapping]): ``img_shape`` (height and width without padding)
                and ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: ``pred_sem_seg`` and ``pred_panoptic_seg`` of each image.
        """
        with torch.autocast(sem_outputs.device.type, enabled=False):
            return [
                self.predict_single(ResizedLogits.of_image(logits, self.stride, meta))
                for logits, meta in zip(sem_outputs, batch_img_metas, strict=True)
            ]

    @torch.no_grad()
    def predict_augmented(
        self,
        sem_outputs: Sequence[Tensor],
        ins_outputs: Sequence[Any],
        metas: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Form the result of one image from the mean of several augmentations of it.

        Args:
            sem_outputs (Sequence[Tensor]): Logits ``(C, h, w)`` of each augmentation.
            ins_outputs (Sequence[None]): There is no instance head.
            metas (Sequence[Mapping]): ``img_shape`` and ``ori_shape`` as in :meth:`predict`, and
                ``flip`` and ``flip_direction``, of each.

        Returns:
            dict: See :meth:`predict`.
        """
        with torch.autocast(sem_outputs[0].device.type, enabled=False):
            pairs = zip(sem_outputs, metas, strict=True)
            parts = [ResizedLogits.of_image(logits, self.stride, meta) for logits, meta in pairs]
            flips = [flipped_dims(meta) for meta in metas]
            return self.predict_single(MeanLogits(parts, flips))

    def predict_single(self, logits: ResizedLogits | MeanLogits) -> dict[str, Any]:
        """Form the result of one image.

        Args:
            logits (ResizedLogits | MeanLogits): ``(C, H, W)`` at the size of the result.

        Returns:
            dict: See :meth:`predict`.
        """
        semantic = logits.classes()
        pred_sem_seg = PixelData()
        pred_sem_seg.sem_seg = semantic[None]
        return {
            "pred_sem_seg": pred_sem_seg,
            "pred_panoptic_seg": make_panoptic_data(*self._segments_of_classes(semantic)),
        }

    def _segments_of_classes(self, semantic: Tensor) -> tuple[Tensor, list[SegmentInfo]]:
        """Number the classes that occur from 1, in ascending order."""
        of_class = segment_statistics((semantic + 1).int(), self.num_classes)
        present = of_class.area > 0
        number = present.cumsum(0) * present
        label = torch.arange(self.num_classes, device=number.device)
        score = number.new_ones(self.num_classes, dtype=torch.float64)
        rows = segment_rows(number, label, score, of_class.area, of_class.box)
        return number[semantic].int(), list_segments([rows], self.thing_labels)[0]
