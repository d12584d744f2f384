"""Operators of detection as their papers and first implementations describe them.

The greedy loop of non-maximum suppression, and RoIAlign (Mask R-CNN, arXiv 1703.06870) bin by bin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def greedy_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> np.ndarray:
    """Keep the best box, drop what overlaps it, repeat; indices of the kept boxes."""
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1 + offset) * (y2 - y1 + offset)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + offset
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + offset
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = inter / (areas[best] + areas[rest] - inter)
        order = rest[~(iou > boxes.dtype.type(threshold))]
    return np.array(kept, np.int64)


@dataclass(frozen=True)
class RoIAlign:
    """Average ratio x ratio (0: one per pixel) bilinear samples in each of bins x bins bins."""

    bins: int
    scale: float
    ratio: int
    aligned: bool

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) in RoIs (R, 5) to (R, C, bins, bins)."""
        output = features.new_zeros(len(rois), features.size(1), self.bins, self.bins)
        for roi, pooled in zip(rois, output, strict=True):
            image = features[int(roi[0])]
            (y, x), shape = self._points(roi[1:])
            samples = sum(
                image[:, row[:, None], column] * weight
                for row, column, weight in _corners(y, x, image.shape[1:])
            )
            if y.numel() * x.numel() > 0:
                pooled.copy_(samples.view(-1, *shape).mean((2, 4)))
        return output

    def backward(self, grad: Tensor, features_shape: torch.Size, rois: Tensor) -> Tensor:
        """Spread the gradient of each bin over the corners of its samples."""
        total = grad.new_zeros(features_shape).flatten(2)
        height, width = features_shape[2:]
        for roi, pooled in zip(rois, grad, strict=True):
            (y, x), shape = self._points(roi[1:])
            spread = pooled[:, :, None, :, None].expand(-1, *shape) / (shape[1] * shape[3])
            spread = spread.reshape(-1, y.numel(), x.numel())
            for row, column, weight in _corners(y, x, (height, width)):
                pixels = (row[:, None] * width + column).flatten()
                total[int(roi[0])].index_add_(1, pixels, (spread * weight).flatten(1))
        return total.view(features_shape)

    def _points(self, box: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int, int, int]]:
        left, top, right, bottom = box * self.scale - 0.5 * self.aligned
        width, height = right - left, bottom - top
        if not self.aligned:
            width, height = width.clamp(min=1), height.clamp(min=1)
        y, x = self._axis(top, height), self._axis(left, width)
        return (y.flatten(), x.flatten()), (*y.shape, *x.shape)

    def _axis(self, start: Tensor, extent: Tensor) -> Tensor:
        step = extent / self.bins
        count = self.ratio or max(0, math.ceil(step))
        within = (torch.arange(count) + 0.5) * step / max(count, 1)
        return start + torch.arange(self.bins)[:, None] * step + within


def _corners(y: Tensor, x: Tensor, size: Sequence[int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows, columns and weights of the four pixels around all pairs of coordinates.

    Points up to one pixel outside take the border's value, points farther out count as zero.
    """
    (top, bottom, down), (left, right, across) = (
        _neighbours(coords, extent) for coords, extent in zip((y, x), size, strict=True)
    )
    inside = ((y >= -1) & (y <= size[0]))[:, None] & ((x >= -1) & (x <= size[1]))
    for row, vertical in ((top, 1 - down), (bottom, down)):
        for column, horizontal in ((left, 1 - across), (right, across)):
            yield row, column, vertical[:, None] * horizontal * inside


def _neighbours(coords: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    coords = coords.clamp(0, size - 1)
    low = coords.floor().long()
    return low, (low + 1).clamp(max=size - 1), coords - low
