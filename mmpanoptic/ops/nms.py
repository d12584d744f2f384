"""Non-maximum suppression, as called by ``mmcv.ops.nms``, ``soft_nms`` and ``nms_match``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .backends import torchvision_operator
from .precision import compute_dtype, in_full_precision

BLOCK = 512
"""Boxes, in the order of their scores, that are decided together."""

TILE = 64
"""Boxes that share one range of possible suppressors on the CPU."""


MAX_PAIRS = 1 << 24
"""Pairs of boxes that are compared at once off the CPU."""


@dataclass(frozen=True)
class _Boxes:
    """Boxes as columns, each (N,); ``area`` follows mmcv's convention for the offset."""

    x1: Tensor
    y1: Tensor
    x2: Tensor
    y2: Tensor
    area: Tensor

    @classmethod
    def of(cls, boxes: Tensor, offset: int) -> _Boxes:
        x1, y1, x2, y2 = boxes.t().contiguous().unbind()
        return cls(x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset))

    @property
    def columns(self) -> tuple[Tensor, ...]:
        return self.x1, self.y1, self.x2, self.y2, self.area

    def __len__(self) -> int:
        return self.x1.numel()

    def __getitem__(self, item: Tensor | slice) -> _Boxes:
        return _Boxes(*(column[item] for column in self.columns))

    def append(self, other: _Boxes) -> _Boxes:
        pairs = zip(self.columns, other.columns, strict=True)
        return _Boxes(*(torch.cat(pair) for pair in pairs))


def _iou(first: _Boxes, second: _Boxes, offset: int) -> Tensor:
    """Return the IoU (N, M) of all pairs.

    The order of operations is that of mmcv, so that an IoU next to the threshold compares alike.
    """
    width = torch.minimum(first.x2[:, None], second.x2)
    width -= torch.maximum(first.x1[:, None], second.x1)
    height = torch.minimum(first.y2[:, None], second.y2)
    height -= torch.maximum(first.y1[:, None], second.y1)
    if offset:
        width += offset
        height += offset
    inter = width.clamp_(min=0).mul_(height.clamp_(min=0))
    union = torch.add(first.area[:, None], second.area, out=height).sub_(inter)
    return inter.div_(union)


def _reach(boxes: _Boxes, iou_threshold: float, offset: int) -> tuple[Tensor, Tensor]:
    """Return the left edges (N,), (N,) between which a box must begin to reach the IoU threshold.

    IoU > t needs an overlap wider than t times the width of either box. A box that begins d to the
    right overlaps by at most w - d, so d < (1 - t) * w; to the left the other box's width counts,
    which is at most w / t.
    """
    if iou_threshold < 0:
        return torch.full_like(boxes.x1, -torch.inf), torch.full_like(boxes.x1, torch.inf)
    ratio = min(iou_threshold, 1.0)
    width = (boxes.x2 - boxes.x1 + offset).clamp(min=0)
    slack = 0.01 * width + 1e-5 * boxes.x1.abs() + 1e-5  # far above the rounding errors of float32
    left = boxes.x1 - (1 - ratio) / max(ratio, 1e-12) * width - slack
    right = boxes.x1 + (1 - ratio) * width + slack
    return left.nan_to_num(nan=-torch.inf), right.nan_to_num(nan=torch.inf)


def _suppressed(boxes: _Boxes, kept: _Boxes, iou_threshold: float, offset: int) -> Tensor:
    """Tell which boxes (N,) a kept box suppresses; ``kept`` is sorted by left edge."""
    suppressed = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.x1.device)
    if len(kept) == 0 or len(boxes) == 0:
        return suppressed
    order = boxes.x1.argsort()
    boxes = boxes[order]
    left, right = _reach(boxes, iou_threshold, offset)
    lefts = torch.stack([part.min() for part in left.split(TILE)])
    rights = torch.stack([part.max() for part in right.split(TILE)])
    begins = torch.searchsorted(kept.x1, lefts).tolist()
    ends = torch.searchsorted(kept.x1, rights, right=True).tolist()
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        rows = slice(number * TILE, (number + 1) * TILE)
        overlap = _iou(boxes[rows], kept[begin:end], offset) > iou_threshold
        suppressed[order[rows]] = overlap.any(1)
    return suppressed


def _resolve(boxes: _Boxes, iou_threshold: float, offset: int) -> Tensor:
    """Tell which boxes (N,), sorted by score, survive the suppression among themselves.

    A box survives if no surviving box before it overlaps it. Starting from all boxes, each round of
    this rule settles at least the next box of every chain, and what a round does not change is the
    greedy solution: there is only one.
    """
    overlap = (_iou(boxes, boxes, offset) > iou_threshold).triu_(1).to(boxes.x1.dtype)
    alive = torch.ones_like(boxes.x1)
    while True:
        settled = (alive @ overlap == 0).to(alive.dtype)
        if torch.equal(settled, alive):
            return alive.bool()
        alive = settled


def _narrows(device: torch.device) -> bool:
    """Tell whether to look for each tile's possible suppressors instead of comparing all pairs.

    Off the CPU, launches and waits cost more than the pairs saved.
    """
    return device.type == "cpu"


def _overlap_bits(boxes: _Boxes, iou_threshold: float, offset: int) -> Tensor:
    """Tell which pairs of boxes overlap: uint8 ``(N, ceil(N / 8))``, bits from the lowest on."""
    count = len(boxes)
    width = -(-count // 8)
    weight = 1 << torch.arange(8, device=boxes.x1.device, dtype=torch.int32)
    rows = []
    step = max(1, MAX_PAIRS // count)
    for begin in range(0, count, step):
        overlap = _iou(boxes[begin : begin + step], boxes, offset) > iou_threshold
        overlap = functional.pad(overlap, (0, width * 8 - count))
        bits = (overlap.view(-1, width, 8) * weight).sum(-1, dtype=torch.int32)
        rows.append(bits.to(torch.uint8))
    return torch.cat(rows)


def _resolve_on_host(boxes: _Boxes, iou_threshold: float, offset: int) -> Tensor:
    """Find the boxes (K,) int64 that survive among boxes (N,) that are sorted by score.

    The size of the result is known on the host, so that nothing else has to wait for it.
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.x1.device)
    bits = _overlap_bits(boxes, iou_threshold, offset).cpu().numpy()
    suppressed = np.zeros(bits.shape[1], np.uint8)
    kept = []
    for number, row in enumerate(bits):
        if not suppressed[number >> 3] >> (number & 7) & 1:
            kept.append(number)
            suppressed |= row
    return torch.tensor(kept).to(boxes.x1.device, non_blocking=True)


def greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Keep the boxes that no better kept box overlaps by more than a threshold.

    The result is that of the greedy procedure; equal scores keep the order of the input. On a CPU,
    blocks of boxes are compared with the boxes kept so far, only where their left edges allow the
    IoU, then among themselves. On another device all pairs are compared at once, and the host,
    which waits for that alone, goes through the rows.

    Args:
        boxes: (N, 4) float32 or float64, (x1, y1, x2, y2) in pixels.
        scores: (N,).
        iou_threshold: A box goes if its IoU with a kept one is greater.
        offset: 0, or 1 where the width of a box is ``x2 - x1 + 1``.

    Returns:
        (K,) int64, indices of the kept boxes by descending score.
    """
    order = scores.argsort(descending=True, stable=True)
    ordered = _Boxes.of(boxes[order], offset)
    if not _narrows(boxes.device):
        return order.index_select(0, _resolve_on_host(ordered, iou_threshold, offset))
    kept = ordered[:0]
    parts = []
    for begin in range(0, order.numel(), BLOCK):
        block = ordered[begin : begin + BLOCK]
        candidates = (~_suppressed(block, kept, iou_threshold, offset)).nonzero().squeeze(1)
        block = block[candidates]
        alive = _resolve(block, iou_threshold, offset).nonzero().squeeze(1)
        parts.append(order[begin + candidates[alive]])
        kept = kept.append(block[alive])
        kept = kept[kept.x1.argsort()]
    return torch.cat(parts) if parts else order


@in_full_precision
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Compute what ``mmcv._ext.nms`` computes.

    Args:
        boxes: (N, 4) of any floating dtype, (x1, y1, x2, y2).
        scores: (N,).
        iou_threshold: Boxes go if their IoU with a better kept box is greater.
        offset: 0 or 1.

    Returns:
        (K,) int64, indices of the kept boxes by descending score.
    """
    boxes = boxes.to(compute_dtype(boxes))
    torchvision_nms = torchvision_operator("nms", boxes.device.type)
    if torchvision_nms is not None and offset == 0:
        # Compared in double precision there, in that of the boxes in mmcv.
        threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
        return torchvision_nms(boxes, scores.to(boxes.dtype), threshold)
    return greedy_nms(boxes, scores, iou_threshold, offset)


def _overlaps(box: NDArray, boxes: NDArray, offset: int) -> NDArray:
    """Return the IoU (N,) of a box (5,) with boxes (5, N); rows x1, y1, x2, y2, area."""
    width = np.minimum(box[2], boxes[2]) - np.maximum(box[0], boxes[0]) + offset
    height = np.minimum(box[3], boxes[3]) - np.maximum(box[1], boxes[1]) + offset
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # empty boxes: NaN, which never suppresses
        return inter / (box[4] + boxes[4] - inter)


def _decay(iou: NDArray, iou_threshold: float, sigma: float, method: int) -> NDArray:
    """Return the factors of the scores: method 0 naive, 1 linear, 2 Gaussian."""
    if method == 2:
        return np.exp(-(iou * iou) / sigma)
    remaining = 1 - iou if method == 1 else np.zeros_like(iou)
    return np.where(iou >= iou_threshold, remaining, 1).astype(iou.dtype)


def _columns(boxes: Tensor, scores: Tensor | None, offset: int) -> NDArray:
    """Return rows x1, y1, x2, y2, area (and score) of boxes as an array of (5 or 6, N)."""
    dtype = compute_dtype(boxes)
    columns = list(_Boxes.of(boxes.to(dtype), offset).columns)
    if scores is not None:
        columns.append(scores.to(dtype))
    return torch.stack(columns).numpy()


@in_full_precision
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Compute what ``mmcv._ext.softnms`` computes: scores decay instead of boxes being removed.

    Takes the best remaining box, lowers the scores of the others by their IoU with it, drops those
    below ``min_score`` and repeats. Equal scores are taken in the order that mmcv's procedure
    leaves them in, which moves the last box to the place of a dropped one.

    Args:
        boxes: (N, 4) on the CPU, (x1, y1, x2, y2).
        scores: (N,).
        dets: (N, 5), receives boxes with their final scores in the first K rows.
        iou_threshold: IoU from which methods 0 and 1 act.
        sigma: Width of method 2.
        min_score: Boxes of a lower score are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 0 or 1.

    Returns:
        (K,) int64, indices of the boxes in the order in which they were taken.
    """
    data = _columns(boxes, scores, offset)
    indices = np.arange(data.shape[1])
    remaining, taken = data.shape[1], 0
    while taken < remaining:
        best = taken + int(np.argmax(data[5, taken:remaining]))
        data[:, [taken, best]] = data[:, [best, taken]]
        indices[[taken, best]] = indices[[best, taken]]
        others = slice(taken + 1, remaining)
        iou = _overlaps(data[:, taken], data[:, others], offset)
        data[5, others] *= _decay(iou, iou_threshold, sigma, method)
        # min_score is compared in the precision of the scores, as in mmcv
        keep = ~(data[5, others] < data.dtype.type(min_score))
        count = int(keep.sum())
        if count < keep.size:
            holes = taken + 1 + np.flatnonzero(~keep[:count])
            fillers = taken + 1 + count + np.flatnonzero(keep[count:])[::-1]
            data[:, holes] = data[:, fillers]
            indices[holes] = indices[fillers]
        taken += 1
        remaining = taken + count
    dets[:remaining] = torch.from_numpy(data[[0, 1, 2, 3, 5], :remaining].T.copy()).to(dets.dtype)
    return torch.from_numpy(indices[:remaining].copy())


@in_full_precision
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Compute what ``mmcv._ext.nms_match`` computes: the groups that NMS makes of boxes.

    Args:
        dets: (N, 5) on the CPU, (x1, y1, x2, y2, score).
        iou_threshold: A box joins the first better kept box whose IoU with it reaches this.

    Returns:
        One list per kept box: its index, then those of the boxes it suppresses, by score.
    """
    order = dets[:, 4].argsort(descending=True, stable=True).numpy()
    data = _columns(dets[:, :4], None, 0)[:, order]
    threshold = data.dtype.type(iou_threshold)
    groups = []
    while order.size:
        member = _overlaps(data[:, 0], data, 0) >= threshold
        member[0] = True  # also where the box is empty
        groups.append(order[member].tolist())
        data, order = data[:, ~member], order[~member]
    return groups
