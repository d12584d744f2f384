"""SOLOv2's instances: neighbours, masks, maskness, matrix NMS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from mmpanoptic.structures import BoxedMasks

from .mask_windows import enlarge_masks
from .segments import block_elements


@dataclass(frozen=True)
class SelectionRules:
    """Thresholds and limits of the selection.

    Attributes:
        score_thr (float): Candidates have a larger category score.
        mask_thr (float): Masks are where the probability is larger.
        nms_pre (int): So many candidates, the best by category score times maskness, enter the NMS.
        filter_thr (float): Instances whose lowered score is smaller are dropped.
        max_per_img (int): Limit of the number of instances.
        kernel (str): Of the matrix NMS, "gaussian" or "linear".
        sigma (float): Of the Gaussian.
        preselect (bool): Compute masks only of the best ``nms_pre`` by category score.
    """

    score_thr: float = 0.1
    mask_thr: float = 0.5
    nms_pre: int = 500
    filter_thr: float = 0.05
    max_per_img: int = 100
    kernel: str = "gaussian"
    sigma: float = 2.0
    preselect: bool = False


class Candidates(NamedTuple):
    """Candidates in descending order of the score.

    Attributes:
        scores (Tensor): float ``(K,)``.
        labels (Tensor): int64 ``(K,)``, class of the head.
        cells (Tensor): int64 ``(K,)``, cell among those of all levels.
        masks (Tensor): bool ``(K, h * w)``.
    """

    scores: Tensor
    labels: Tensor
    cells: Tensor
    masks: Tensor

    def take(self, index: Tensor | slice) -> Candidates:
        """Select candidates."""
        return Candidates(*(part[index] for part in self))


@dataclass(frozen=True)
class GridInstances:
    """Instances of one image whose masks are logits on a coarse grid.

    Attributes:
        scores (Tensor): float ``(K,)``, descending.
        labels (Tensor): int64 ``(K,)``, class of the head.
        logits (Tensor): float ``(K, h, w)``.
        stride (int): Pixels of the image per cell.
        img_shape (tuple[int, int]): Height and width of the image without padding.
        out_shape (tuple[int, int]): Height H and width W of the result.
        mask_thr (float): Masks are where the probability is larger.
    """

    scores: Tensor
    labels: Tensor
    logits: Tensor
    stride: int
    img_shape: tuple[int, int]
    out_shape: tuple[int, int]
    mask_thr: float = 0.5

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: Tensor | slice) -> GridInstances:
        """Select instances."""
        return replace(
            self,
            scores=self.scores[index],
            labels=self.labels[index],
            logits=self.logits[index],
        )

    @property
    def logit_thr(self) -> float:
        """Masks are where the logit is larger."""
        return math.log(self.mask_thr / (1 - self.mask_thr))

    def masks(self) -> BoxedMasks:
        """Enlarge probabilities and binarise them: ``(K, H, W)`` of bool."""
        grid = (self.stride, self.img_shape, self.out_shape)
        return enlarge_masks(self.logits.sigmoid(), *grid, self.mask_thr, binary=True)

    def for_fusion(self, score_thr: float) -> InstanceData:
        """Enlarge the logits of the instances that a panoptic fusion head will use.

        Args:
            score_thr (float): Instances score at least this.

        Returns:
            InstanceData: ``scores``, ``labels`` and ``mask_logits`` (:class:`BoxedMasks` of float
            in the tight boxes of the masks).
        """
        kept = self.take(self.scores >= score_thr)
        grid = (self.stride, self.img_shape, self.out_shape)
        instances = InstanceData(scores=kept.scores, labels=kept.labels)
        instances.mask_logits = enlarge_masks(kept.logits, *grid, self.logit_thr)
        return instances


def suppress_neighbours(cls_logits: Tensor, num_grids: Sequence[int]) -> Tensor:
    """Keep the category scores that are the largest of their 2x2 window.

    The window of a cell is the cell, its upper, its left and its upper left neighbour.

    Args:
        cls_logits (Tensor): ``(C, P)`` of all levels.
        num_grids (Sequence[int]): Cells per axis of each level.

    Returns:
        Tensor: ``(C, P)`` probabilities, 0 where a neighbour's is larger.

    Raises:
        ValueError: If the levels do not have P cells.
    """
    sizes = [side * side for side in num_grids]
    if sum(sizes) != cls_logits.shape[1]:
        raise ValueError(
            f"the instance head predicts {cls_logits.shape[1]} cells, but num_grids "
            f"{tuple(num_grids)} of the fusion head makes {sum(sizes)}; give both the same grids"
        )
    kept = []
    for side, scores in zip(num_grids, cls_logits.float().sigmoid().split(sizes, 1), strict=True):
        level = scores.view(-1, side, side)
        best = functional.max_pool2d(level[None], 2, stride=1, padding=1)[0, :, :-1, :-1]
        kept.append((level * (level == best)).flatten(1))
    return torch.cat(kept, 1)


def select_candidates(
    scores: Tensor,
    kernels: Tensor,
    mask_feats: Tensor,
    min_area: Tensor,
    rules: SelectionRules,
) -> Candidates:
    """Find the best candidates by category score times maskness, and their masks.

    The maskness, the mean probability of a mask's pixels, is at most 1. So masks are computed in
    descending order of the category score, and no further ones once they cannot change the
    ``max_per_img`` instances that remain: the result is that of computing all masks.

    Args:
        scores (Tensor): ``(C, P)``, from :func:`suppress_neighbours`.
        kernels (Tensor): ``(E, P)``.
        mask_feats (Tensor): ``(E, h, w)``.
        min_area (Tensor): float ``(P,)``; masks must have more cells of the mask features.
        rules (SelectionRules): Thresholds and limits.

    Returns:
        Candidates: At most ``nms_pre``, in descending order of the product.
    """
    cells, labels = (scores > rules.score_thr).t().nonzero(as_tuple=True)
    values, order = scores[labels, cells].sort(descending=True, stable=True)
    cells, labels = cells[order], labels[order]
    if rules.preselect:
        values, labels, cells = (part[: rules.nms_pre] for part in (values, labels, cells))
    feats = mask_feats.flatten(1)
    size = max(rules.nms_pre // 2, 1)
    # Room for the best so far and the next ones; `row` is where a candidate's mask lies.
    room = min(len(values), rules.nms_pre + size)
    store = torch.empty(room, feats.shape[1], dtype=torch.bool, device=feats.device)
    found = Candidates(values[:0], labels[:0], cells[:0], cells[:0])
    bounds = [*values[::size].tolist(), -math.inf]
    for number, start in enumerate(range(0, len(values), size)):
        part = slice(start, start + size)
        row = _free_rows(found.masks, room)[: len(values[part])]
        area, maskness = measure_masks(kernels[:, cells[part]], feats, rules.mask_thr, store, row)
        new = Candidates(values[part] * maskness, labels[part], cells[part], row)
        found = _merge(found, new.take(area > min_area[cells[part]]), rules.nms_pre)
        if _decided(found, store, bounds[number + 1], rules):
            break
    return found._replace(masks=store[found.masks])


def _decided(found: Candidates, store: Tensor, bound: float, rules: SelectionRules) -> bool:
    """Tell whether candidates that score at most ``bound`` are of no importance any more.

    They are if ``nms_pre`` others score more. They are, too, if ``max_per_img`` others do even
    after the NMS, for a mask is lowered by better ones only.
    """
    if len(found.scores) == rules.nms_pre and float(found.scores[-1]) >= bound:
        return True
    count = int((found.scores > bound).sum())
    if count < rules.max_per_img or not math.isfinite(bound):
        return False
    best = found.take(slice(count))
    lowered = matrix_nms(store[best.masks], best.labels, best.scores, rules.kernel, rules.sigma)
    return int((lowered > bound).sum()) >= rules.max_per_img


def _free_rows(used: Tensor, room: int) -> Tensor:
    free = torch.ones(room, dtype=torch.bool, device=used.device)
    free[used] = False
    return free.nonzero()[:, 0]


def _merge(old: Candidates, new: Candidates, limit: int) -> Candidates:
    """Merge sorted with further candidates and keep the best ones; ties in the order given."""
    both = Candidates(*(torch.cat(pair) for pair in zip(old, new, strict=True)))
    return both.take(both.scores.argsort(descending=True, stable=True)[:limit])


def measure_masks(
    kernels: Tensor, feats: Tensor, mask_thr: float, store: Tensor, row: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute masks and how sure they are, block by block of pixels.

    Args:
        kernels (Tensor): ``(E, K)``.
        feats (Tensor): ``(E, P)``, mask features of all pixels.
        mask_thr (float): Masks are where the probability is larger.
        store (Tensor): bool ``(R, P)``, takes the masks.
        row (Tensor): int64 ``(K,)``, where in ``store``.

    Returns:
        tuple[Tensor, Tensor]: Areas float ``(K,)``; mean probabilities of the pixels of each
        mask ``(K,)``.
    """
    kernels = kernels.t().contiguous()
    count, pixels = len(kernels), feats.shape[1]
    area = torch.zeros(count, device=feats.device)
    total = torch.zeros(count, device=feats.device)
    size = max(block_elements(feats.device) // max(count, 1), 1)
    for start in range(0, pixels, size):
        part = slice(start, start + size)
        probability = (kernels @ feats[:, part]).sigmoid_()
        masks = probability > mask_thr
        store[:, part].index_copy_(0, row, masks)
        total += torch.threshold_(probability, mask_thr, 0.0).sum(1)
        area += probability.sign_().sum(1)
    return area, total / area.clamp(min=1)


def suppress(candidates: Candidates, rules: SelectionRules) -> tuple[Tensor, Tensor]:
    """Apply the matrix NMS, the threshold and the limit.

    Returns:
        tuple[Tensor, Tensor]: int64 ``(K,)``, which candidates remain, the best first; their
        lowered scores ``(K,)``.
    """
    scores = matrix_nms(
        candidates.masks, candidates.labels, candidates.scores, rules.kernel, rules.sigma
    )
    scores, order = scores.sort(descending=True, stable=True)
    keep = (scores >= rules.filter_thr).nonzero()[: rules.max_per_img, 0]
    return order[keep], scores[keep]


KERNELS = ("gaussian", "linear")
BLOCK_PIXELS = 1 << 13
"""Pixels of all masks that are multiplied at once; as floats they are four times the masks."""


def matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: str = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Lower scores by the overlap with better masks of the same class.

    SOLOv2 (arXiv:2003.10152), section 3.5. Differences from the original: masks become floats
    block by block, on a CPU class by class and only where the class has masks; identical masks do
    not make the linear kernel divide 0 by 0.

    Args:
        masks (Tensor): bool ``(K, P)``, flattened masks in descending order of their scores.
        labels (Tensor): ``(K,)``.
        scores (Tensor): float ``(K,)``.
        kernel (str): "gaussian" or "linear".
        sigma (float): Of the Gaussian: the decay is ``exp(-sigma * IoU ** 2)``.

    Returns:
        Tensor: ``(K,)``, the lowered scores in the order of the input.

    Raises:
        ValueError: If the kernel is unknown.
    """
    if kernel not in KERNELS:
        raise ValueError(f"matrix_nms: kernel must be one of {KERNELS}, got {kernel!r}")
    if not len(masks):
        return scores
    if masks.device.type != "cpu":
        same = labels[:, None] == labels
        iou = mask_iou(masks).triu(diagonal=1) * same  # other classes then lower nothing
        return scores * _decay(iou, kernel, sigma).amin(0)
    lowered = scores.clone()
    for label in labels.unique().tolist():
        own = (labels == label).nonzero()[:, 0]
        iou = mask_iou(masks.index_select(0, own)).triu(diagonal=1)
        lowered[own] *= _decay(iou, kernel, sigma).amin(0)
    return lowered


def _decay(iou: Tensor, kernel: str, sigma: float) -> Tensor:
    """Tell how much each mask (row) lowers each worse one (column), given their IoU ``(K, K)``."""
    # How much a better mask is covered itself weakens what it does to others.
    covered = iou.amax(0)[:, None]
    if kernel == "linear":
        # 0 / 0 comes from copies of copies, which the first of them lowers anyway.
        return ((1 - iou) / (1 - covered)).nan_to_num_(nan=1.0)
    return torch.exp(-sigma * iou.square()) / torch.exp(-sigma * covered.square())


def mask_iou(masks: Tensor) -> Tensor:
    """Compute the IoU of all pairs of masks.

    Args:
        masks (Tensor): bool ``(K, P)``.

    Returns:
        Tensor: float32 ``(K, K)``; 0 where both masks are empty.
    """
    count = len(masks)
    inter = torch.zeros(count, count, device=masks.device)
    if masks.device.type == "cpu":  # elsewhere the host would wait for the number of pixels
        masks = masks.index_select(1, masks.any(0).nonzero()[:, 0])
    with torch.autocast(masks.device.type, enabled=False):
        for block in masks.split(BLOCK_PIXELS, dim=1):
            part = block.float()
            inter.addmm_(part, part.t())
    area = inter.diagonal()
    return inter / (area[:, None] + area - inter).clamp_(min=1)
