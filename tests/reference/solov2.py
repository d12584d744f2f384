"""Plain re-statements of SOLOv2's target generator and post-processing.

Written the way the publication describes them: one instance after the other, a copy of its mask for
every positive cell; the masks of all candidates at once, enlarged twice at full size. Used as
oracles and as baselines of benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class LevelTargets(NamedTuple):
    """Targets of one level: classes ``(S, S)``, cells ``(T,)`` and masks ``(T, h, w)``."""

    labels: Tensor
    cells: list[int]
    masks: Tensor


def cell_of(place: Tensor, length: int, grid: int) -> int:
    """Find the cell of a coordinate: the truncated float32 quotient."""
    return int(torch.div(place / length, 1.0 / grid, rounding_mode="trunc"))


def make_targets(
    boxes: Tensor,
    labels: Tensor,
    masks: Tensor,
    num_classes: int,
    feat_size: tuple[int, int],
    num_grids: Sequence[int],
    scale_ranges: Sequence[Sequence[float]],
    pos_scale: float = 0.2,
    stride: int = 4,
) -> list[LevelTargets]:
    """Make the targets of one image, level by level, instance by instance, cell by cell."""
    height, width = feat_size[0] * stride, feat_size[1] * stride
    sides = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    levels = []
    for grid, (low, high) in zip(num_grids, scale_ranges, strict=True):
        level_labels = torch.full((grid, grid), num_classes)
        cells, targets = [], []
        for k in ((sides >= low) & (sides <= high)).nonzero()[:, 0].tolist():
            mask = masks[k].bool()
            if not mask.any():
                continue
            count = mask.sum().float()
            y = (mask * torch.arange(mask.shape[0])[:, None]).sum() / count
            x = (mask * torch.arange(mask.shape[1])).sum() / count
            half_h = 0.5 * (boxes[k, 3] - boxes[k, 1]) * pos_scale
            half_w = 0.5 * (boxes[k, 2] - boxes[k, 0]) * pos_scale
            row, column = cell_of(y, height, grid), cell_of(x, width, grid)
            top = max(0, cell_of(y - half_h, height, grid), row - 1)
            bottom = min(grid - 1, cell_of(y + half_h, height, grid), row + 1)
            left = max(0, cell_of(x - half_w, width, grid), column - 1)
            right = min(grid - 1, cell_of(x + half_w, width, grid), column + 1)
            level_labels[top : bottom + 1, left : right + 1] = labels[k]
            small_size = (int(mask.shape[1] / stride + 0.5), int(mask.shape[0] / stride + 0.5))
            small = cv2.resize(mask.numpy().astype(np.uint8), small_size)
            for i in range(top, bottom + 1):
                for j in range(left, right + 1):
                    target = torch.zeros(feat_size, dtype=torch.uint8)
                    target[: small.shape[0], : small.shape[1]] = torch.from_numpy(small)
                    targets.append(target)
                    cells.append(i * grid + j)
        stacked = torch.stack(targets) if targets else torch.zeros(0, *feat_size).byte()
        levels.append(LevelTargets(level_labels, cells, stacked))
    return levels


def matrix_nms(
    masks: Tensor, labels: Tensor, scores: Tensor, area: Tensor, kernel: str, sigma: float
) -> Tensor:
    """Lower the scores of masks in descending order of their scores."""
    count = len(masks)
    flat = masks.reshape(count, -1).float()
    inter = flat @ flat.t()
    areas = area.expand(count, count)
    iou = (inter / (areas + areas.t() - inter)).triu(diagonal=1)
    same = (labels.expand(count, count) == labels.expand(count, count).t()).triu(diagonal=1)
    decay_iou = iou * same
    compensate = decay_iou.max(0).values.expand(count, count).t()
    if kernel == "gaussian":
        decay = torch.exp(-sigma * decay_iou**2) / torch.exp(-sigma * compensate**2)
    else:
        decay = (1 - decay_iou) / (1 - compensate)
    return scores * decay.min(0).values


def get_instances(
    cls_scores: Tensor,
    kernels: Tensor,
    mask_feats: Tensor,
    level_strides: Tensor,
    img_shape: tuple[int, int],
    ori_shape: tuple[int, int],
    score_thr: float = 0.1,
    mask_thr: float = 0.5,
    nms_pre: int = 500,
    update_thr: float = 0.05,
    max_per_img: int = 100,
    kernel: str = "gaussian",
    sigma: float = 2.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Post-process one image as published.

    Args:
        cls_scores: ``(P, C)`` probabilities after the suppression of neighbours.
        kernels: ``(P, E)``.
        mask_feats: ``(1, E, h, w)``.
        level_strides: ``(P,)``.
        img_shape: Height and width without padding.
        ori_shape: Height and width of the result.

    Returns:
        Masks ``(K, H, W)``, labels and scores.
    """
    chosen = cls_scores > score_thr
    scores = cls_scores[chosen]
    cells, labels = chosen.nonzero(as_tuple=True)
    filters = kernels[cells][:, :, None, None]
    strides = level_strides[cells]
    probability = functional.conv2d(mask_feats, filters).squeeze(0).sigmoid()
    masks = probability > mask_thr
    area = masks.sum((1, 2)).float()
    keep = area > strides
    masks, probability, area = masks[keep], probability[keep], area[keep]
    scores, labels = scores[keep], labels[keep]
    scores = scores * ((probability * masks.float()).sum((1, 2)) / area)
    order = scores.argsort(descending=True)[:nms_pre]
    masks, probability, area = masks[order], probability[order], area[order]
    scores, labels = scores[order], labels[order]
    scores = matrix_nms(masks, labels, scores, area, kernel, sigma)
    keep = scores >= update_thr
    probability, scores, labels = probability[keep], scores[keep], labels[keep]
    order = scores.argsort(descending=True)[:max_per_img]
    probability, scores, labels = probability[order], scores[order], labels[order]
    padded = (mask_feats.shape[2] * 4, mask_feats.shape[3] * 4)
    full = functional.interpolate(
        probability[None], size=padded, mode="bilinear", align_corners=False
    )[:, :, : img_shape[0], : img_shape[1]]
    full = functional.interpolate(full, size=ori_shape, mode="bilinear", align_corners=False)[0]
    return full > mask_thr, labels, scores
