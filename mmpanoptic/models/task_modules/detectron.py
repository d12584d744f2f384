"""The conventions of Detectron and maskrcnn-benchmark: rounded anchors, boxes that hold their ends.

A box x0, y0, x1, y1 covers the pixels x0 to x1 inclusively, so it is x1 - x0 + 1 wide. One
implementation serves all published weights of that family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.models.task_modules import AnchorGenerator, BaseBBoxCoder
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor
from torch import Tensor

from mmpanoptic.registry import TASK_UTILS
from mmpanoptic.structures import as_tensor_on


@TASK_UTILS.register_module()
class DetectronAnchorGenerator(AnchorGenerator):
    """Place anchors with rounded sides: one size per level, several ratios.

    Differences from the original (``mmdet.AnchorGenerator``): an anchor starts as a square of
    stride x stride pixels that is brought to its ratio with **rounded** sides and is scaled only
    then; the centre is that of the square's pixels, (stride - 1) / 2; the ends are inclusive.

    Args:
        strides (Sequence[int]): Pixels per cell of each level.
        sizes (Sequence[int]): Side of the square anchor of each level in pixels.
        ratios (Sequence[float]): Height divided by width.

    Raises:
        ValueError: If the levels of ``strides`` and ``sizes`` are not equally many.
    """

    def __init__(
        self,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        sizes: Sequence[int] = (32, 64, 128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        if len(strides) != len(sizes):
            raise ValueError(
                "DetectronAnchorGenerator needs one size per stride, got strides "
                f"{list(strides)} and sizes {list(sizes)}"
            )
        self.sizes = list(sizes)
        super().__init__(strides=list(strides), ratios=list(ratios), scales=[1.0])

    def gen_base_anchors(self) -> list[Tensor]:
        """Compute the anchors of the first cell of each level.

        Returns:
            list[Tensor]: float32 ``(A, 4)`` of each level.
        """
        ratios = self.ratios.numpy().astype(np.float64)
        anchors = []
        for (stride, _), size in zip(self.strides, self.sizes, strict=True):
            width = np.round(np.sqrt(stride**2 / ratios))
            height = np.round(width * ratios)
            half = (np.stack([width, height], 1) * (size / stride) - 1) / 2
            center = (stride - 1) / 2
            anchors.append(torch.from_numpy(np.hstack([center - half, center + half])).float())
        return anchors


@TASK_UTILS.register_module()
class DetectronBoxCoder(BaseBBoxCoder):
    """Code boxes with inclusive ends as deltas of centre and logarithmic size.

    Differences from the original (``mmdet.LegacyDeltaXYWHBBoxCoder``): that one encodes alike, but
    what it decodes is half a pixel too large on each side; and sizes are limited upwards only.

    Args:
        target_stds (Sequence[float]): What the deltas dx, dy, dw, dh are divided by.
        max_ratio (float): Largest factor between the sizes of a decoded box and its prior.
        use_box_type (bool): Return mmdet's ``HorizontalBoxes`` instead of tensors.
    """

    def __init__(
        self,
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        max_ratio: float = 1000 / 16,
        use_box_type: bool = False,
    ) -> None:
        super().__init__(use_box_type=use_box_type)
        self.target_stds = tuple(target_stds)
        self.max_ratio = max_ratio

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Compute the deltas that lead from priors to boxes.

        Args:
            bboxes (Tensor): Priors ``(N, 4)``, x0, y0, x1, y1, inclusive.
            gt_bboxes (Tensor): Boxes ``(N, 4)``.

        Returns:
            Tensor: float32 ``(N, 4)``, dx, dy, dw, dh.
        """
        center, size = _center_size(get_box_tensor(bboxes))
        gt_center, gt_size = _center_size(get_box_tensor(gt_bboxes))
        deltas = torch.cat([(gt_center - center) / size, (gt_size / size).log()], dim=-1)
        return deltas / as_tensor_on(deltas, self.target_stds)

    def decode(
        self,
        bboxes: Tensor,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
    ) -> Tensor | HorizontalBoxes:
        """Apply deltas to priors.

        Args:
            bboxes (Tensor): Priors ``(N, 4)``.
            pred_bboxes (Tensor): Deltas ``(N, 4)`` or, for C classes, ``(N, C * 4)``.
            max_shape (Sequence[int] | None): Height and width of the image to clip to.

        Returns:
            Tensor | HorizontalBoxes: float32, as large as ``pred_bboxes``.
        """
        center, size = (part[:, None] for part in _center_size(get_box_tensor(bboxes)))
        deltas = pred_bboxes.float().unflatten(1, (-1, 4))
        deltas = deltas * as_tensor_on(deltas, self.target_stds)
        new_center = deltas[..., :2] * size + center
        half = 0.5 * deltas[..., 2:].clamp(max=math.log(self.max_ratio)).exp() * size
        boxes = torch.cat([new_center - half, new_center + half - 1], dim=-1)
        if max_shape is not None:
            height, width = max_shape[:2]
            limit = as_tensor_on(boxes, [width - 1, height - 1, width - 1, height - 1])
            boxes = boxes.clamp(min=0).minimum(limit)
        boxes = boxes.flatten(1)
        return HorizontalBoxes(boxes) if self.use_box_type else boxes


@TASK_UTILS.register_module()
class DetectronBoxOverlaps:
    """Compute the IoU of boxes with inclusive ends; an ``iou_calculator`` of mmdet's assigners."""

    def __call__(
        self, bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", is_aligned: bool = False
    ) -> Tensor:
        """Compare boxes.

        Args:
            bboxes1 (Tensor): ``(M, 4)``.
            bboxes2 (Tensor): ``(N, 4)``.
            mode (str): "iou", or "iof" for the intersection over the area of ``bboxes1``.
            is_aligned (bool): Compare row by row; M = N then.

        Returns:
            Tensor: float32 ``(M, N)``, or ``(M,)`` if aligned.

        Raises:
            ValueError: If the mode is unknown.
        """
        if mode not in ("iou", "iof"):
            raise ValueError(f'mode of DetectronBoxOverlaps is "iou" or "iof", got {mode!r}')
        first, second = (get_box_tensor(boxes)[:, :4].float() for boxes in (bboxes1, bboxes2))
        if not is_aligned:
            first, second = first[:, None], second[None]
        low = torch.maximum(first[..., :2], second[..., :2])
        high = torch.minimum(first[..., 2:], second[..., 2:])
        common = (high - low + 1).clamp(min=0).prod(-1)
        area = inclusive_area(first)
        return common / (area if mode == "iof" else area + inclusive_area(second) - common)


def inclusive_area(boxes: Tensor) -> Tensor:
    """Compute the areas ``(...)`` of boxes ``(..., 4)`` with inclusive ends."""
    return (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    boxes = boxes.float()
    size = boxes[..., 2:] - boxes[..., :2] + 1
    return boxes[..., :2] + 0.5 * size, size
