"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4), exactly.

Counts are integers, each IoU is one float64 division of exact integers, and the IoUs of a category
are added one after the other: images in the order of the ground truth, matches inside an image by
ascending ground-truth id. Hence the results have the bits of the published evaluator
(cocodataset/panopticapi) in one process, for any number of threads, processes or ranks here.

Differences from the original:
    Pairs of segments are counted on runs of equal ids instead of a sort over all pixels. An empty
    group gives nan and ``n = 0`` instead of a division by zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmpanoptic.structures import LabelTable

UNLISTED = -1
"""Category of slots whose id is not among the listed segments."""

_DENSE_PAIRS = 1 << 22  # largest table of pairs, 32 MiB; sorted codes beyond


@dataclass(frozen=True)
class Categories:
    """Categories of a ground truth, by position.

    Attributes:
        ids (tuple): Dataset ids; the first ones in the order of the JSON's ``categories``, then
            ids that only segments use (they are counted, but never averaged).
        names (tuple[str, ...]): Names of the listed categories.
        isthing (tuple[bool, ...]): Things or stuff, of the listed categories.
    """

    ids: tuple[Any, ...]
    names: tuple[str, ...]
    isthing: tuple[bool, ...]
    position: dict[Any, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", {key: i for i, key in enumerate(self.ids)})

    @classmethod
    def from_label_table(cls, table: LabelTable) -> Categories:
        """Take the categories of a dataset; positions are its contiguous labels."""
        return cls(
            tuple(label.dataset_id for label in table),
            tuple(label.name for label in table),
            tuple(label.isthing for label in table),
        )

    @property
    def num_listed(self) -> int:
        """Number of categories that averages go over."""
        return len(self.isthing)


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """A panoptic map as run lengths over the flattened map, and a table of its segments.

    Attributes:
        shape (tuple[int, int]): ``(H, W)``.
        start (np.ndarray): ``(R,)``, flat index of the first pixel of each run, ascending from 0.
        slot (np.ndarray): ``(R,)``, slot of each run: row of the following arrays.
        ids (np.ndarray): int64 ``(S,)``, ascending segment ids; slot 0 is id 0, void.
        category (np.ndarray): int32 ``(S,)``, position in :class:`Categories`, or
            :data:`UNLISTED`.
        area (np.ndarray): float64 ``(S,)``, pixels: as annotated for ground truth, counted for
            predictions.
        crowd (np.ndarray): bool ``(S,)``.
        crowd_slots (np.ndarray): int64 ``(K,)``, slots of the crowds in the order of the JSON.
    """

    shape: tuple[int, int]
    start: np.ndarray
    slot: np.ndarray
    ids: np.ndarray
    category: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    crowd_slots: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(v.nbytes for v in vars(self).values() if isinstance(v, np.ndarray))

    def expand(self) -> np.ndarray:
        """Paint the slots: int32 ``(H, W)``."""
        length = np.diff(self.start, append=self.shape[0] * self.shape[1])
        return np.repeat(self.slot.astype(np.int32), length).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class ImageMatch:
    """What one image contributes; small, so it can be kept and sent for every image.

    Attributes:
        category (np.ndarray): int32 ``(T,)``, category of each match, by ascending ground-truth
            slot.
        iou (np.ndarray): float64 ``(T,)``.
        false_positive (np.ndarray): int32 ``(F,)``, categories.
        false_negative (np.ndarray): int32 ``(M,)``, categories.
    """

    category: np.ndarray
    iou: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray


@dataclass(frozen=True, eq=False)
class CategoryStatistics:
    """Sums by category: float64 ``iou`` and int64 ``tp``, ``fp``, ``fn``, each ``(C,)``."""

    iou: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    def to_dict(self, categories: Categories) -> dict[Any, dict[str, float]]:
        """Return the sums by category id, only of categories that occur."""
        present = np.flatnonzero(self.tp + self.fp + self.fn)
        return {
            categories.ids[i]: {
                "iou": float(self.iou[i]),
                "tp": int(self.tp[i]),
                "fp": int(self.fp[i]),
                "fn": int(self.fn[i]),
            }
            for i in present.tolist()
        }


@dataclass(frozen=True)
class PanopticQuality:
    """Averages and their parts; fractions, not percent.

    Attributes:
        averages (dict): ``All``, ``Things`` and ``Stuff``, each with ``pq``, ``sq``, ``rq`` (nan
            if the group is empty) and ``n``, the number of categories that occur.
        per_class (dict): ``pq``, ``sq``, ``rq`` by category id in the order of the categories;
            zeros where a category does not occur.
        per_category_stats (dict): ``iou``, ``tp``, ``fp``, ``fn`` by category id, only of
            categories that occur.
    """

    averages: dict[str, dict[str, float]]
    per_class: dict[Any, dict[str, float]]
    per_category_stats: dict[Any, dict[str, float]]


def count_pairs(gt: SegmentMap, pred: SegmentMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the common pixels of every pair of slots, void included.

    Each stretch of pixels with one ground-truth and one predicted slot begins where a run of
    either map begins, so two binary searches over the starts replace a pass over the pixels.

    Args:
        gt: Ground truth.
        pred: Prediction of the same shape.

    Returns:
        tuple: int64 ground-truth slots, predicted slots and pixel counts > 0, each ``(P,)``,
        ascending by (ground-truth slot, predicted slot).
    """
    size = gt.shape[0] * gt.shape[1]
    gt_end = np.append(gt.start[1:], size)
    pred_end = np.append(pred.start[1:], size)
    pred_run = np.searchsorted(pred.start, gt.start, "right") - 1
    gt_run = np.searchsorted(gt.start, pred.start, "right") - 1
    length_at_gt = np.minimum(gt_end, pred_end[pred_run]) - gt.start
    length_at_pred = np.minimum(pred_end, gt_end[gt_run]) - pred.start
    length_at_pred[gt.start[gt_run] == pred.start] = 0  # counted at the ground truth's start

    num_pred = len(pred.ids)
    gt_slot = np.concatenate([gt.slot, gt.slot[gt_run]]).astype(np.int64)
    pred_slot = np.concatenate([pred.slot[pred_run], pred.slot])
    code = gt_slot * num_pred + pred_slot
    length = np.concatenate([length_at_gt, length_at_pred])
    if len(gt.ids) * num_pred <= _DENSE_PAIRS:
        count = np.bincount(code, length)  # float64 sums of integers below 2**53 are exact
        pair = np.flatnonzero(count)
        count = count[pair]
    else:
        pair, inverse = np.unique(code[length > 0], return_inverse=True)
        count = np.bincount(inverse, length[length > 0])
    return pair // num_pred, pair % num_pred, count.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Pairing:
    """Which segments of one image belong together.

    Attributes:
        gt_slot (np.ndarray): int64 ``(T,)``, ascending slots of the matched ground truth.
        pred_slot (np.ndarray): int64 ``(T,)``, slots of their predictions.
        iou (np.ndarray): float64 ``(T,)``.
        missed (np.ndarray): bool ``(S,)`` by slot of the ground truth, false negatives.
        wrong (np.ndarray): bool ``(P,)`` by slot of the prediction, false positives.
    """

    gt_slot: np.ndarray
    pred_slot: np.ndarray
    iou: np.ndarray
    missed: np.ndarray
    wrong: np.ndarray

    def to_match(self, gt: SegmentMap, pred: SegmentMap) -> ImageMatch:
        """Keep the categories alone."""
        return ImageMatch(
            gt.category[self.gt_slot],
            self.iou,
            pred.category[self.wrong],
            gt.category[self.missed],
        )


def match_segments(gt: SegmentMap, pred: SegmentMap) -> ImageMatch:
    """Match the segments of one image, see :func:`pair_segments`."""
    return pair_segments(gt, pred, *count_pairs(gt, pred)).to_match(gt, pred)


def pair_segments(
    gt: SegmentMap,
    pred: SegmentMap,
    gt_slot: np.ndarray,
    pred_slot: np.ndarray,
    count: np.ndarray,
) -> Pairing:
    """Match the segments of one image by their common pixels.

    All thresholds are strict: an IoU of exactly one half is no match, and a predicted segment
    that is void (or crowd of its category) to exactly one half is a false positive. Of two crowds
    of one category only the last one listed excuses predictions, as in the published evaluator.

    Args:
        gt: Ground truth.
        pred: Prediction of the same shape; its runs are not looked at.
        gt_slot (np.ndarray): From :func:`count_pairs`.
        pred_slot (np.ndarray): Likewise.
        count (np.ndarray): Likewise.

    Returns:
        Pairing: Matches, false positives and false negatives. An IoU above 1 shows that an
        annotated area is wrong.
    """
    void = void_pixels(pred, gt_slot, pred_slot, count)
    same = gt.category[gt_slot] == pred.category[pred_slot]
    same &= (gt.category[gt_slot] != UNLISTED) & ~gt.crowd[gt_slot]
    g, p, common = gt_slot[same], pred_slot[same], count[same]
    union = pred.area[p] + gt.area[g] - common - void[p]
    with np.errstate(divide="ignore"):  # a union of 0 comes from a wrong area, and is reported
        iou = common / union
    match = iou > 0.5
    g, p, iou = g[match], p[match], iou[match]

    missed = (gt.category != UNLISTED) & ~gt.crowd
    missed[g] = False
    wrong = pred.category != UNLISTED
    wrong[p] = False
    ignored = void + _inside_crowd(gt, pred, gt_slot, pred_slot, count)
    wrong &= ignored <= 0.5 * pred.area
    return Pairing(g, p, iou, missed, wrong)


def void_pixels(
    pred: SegmentMap, gt_slot: np.ndarray, pred_slot: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """Count each predicted segment's pixels on the ground truth's void, int64 ``(P,)``."""
    void = np.zeros(len(pred.ids), np.int64)
    void[pred_slot[gt_slot == 0]] = count[gt_slot == 0]
    return void


def _inside_crowd(
    gt: SegmentMap,
    pred: SegmentMap,
    gt_slot: np.ndarray,
    pred_slot: np.ndarray,
    count: np.ndarray,
) -> np.ndarray:
    """Count each predicted segment's pixels on the crowd of its category, int64 ``(S,)``."""
    inside = np.zeros(len(pred.ids), np.int64)
    if not len(gt.crowd_slots):
        return inside
    excusing = np.full(max(gt.category.max(), pred.category.max()) + 1, -1, np.int64)
    for slot in gt.crowd_slots.tolist():
        excusing[gt.category[slot]] = slot
    listed = pred.category[pred_slot] != UNLISTED
    hit = listed & (excusing[pred.category[pred_slot]] == gt_slot)
    inside[pred_slot[hit]] = count[hit]
    return inside


def accumulate(matches: Iterable[ImageMatch], num_categories: int) -> CategoryStatistics:
    """Add the matches of all images.

    Args:
        matches: In the order of the ground truth's annotations, which decides the last bits.
        num_categories: C, categories that only segments use included.

    Returns:
        CategoryStatistics: The sums.
    """
    matches = list(matches)

    def join(name: str, dtype: type) -> np.ndarray:
        parts = [getattr(match, name) for match in matches]
        return np.concatenate([np.zeros(0, dtype), *parts])

    category = join("category", np.int32)
    # bincount adds one by one in the given order; np.sum adds in pairs, which gives other bits.
    iou = np.bincount(category, join("iou", np.float64), num_categories)
    tp, fp, fn = (
        np.bincount(categories, minlength=num_categories)
        for categories in (
            category,
            join("false_positive", np.int32),
            join("false_negative", np.int32),
        )
    )
    return CategoryStatistics(iou, tp, fp, fn)


def summarize(statistics: CategoryStatistics, categories: Categories) -> PanopticQuality:
    """Turn sums into PQ, SQ and RQ.

    PQ = sum of IoU / (TP + FP/2 + FN/2), SQ = sum of IoU / TP, RQ = TP / (TP + FP/2 + FN/2);
    averages are plain means over the categories that occur (so ``All``'s PQ is not SQ * RQ).

    Args:
        statistics: The sums.
        categories: Their categories.

    Returns:
        PanopticQuality: Unrounded fractions.
    """
    values, present = [], []
    sums = zip(
        statistics.iou.tolist(),
        statistics.tp.tolist(),
        statistics.fp.tolist(),
        statistics.fn.tolist(),
        strict=True,
    )
    for iou, tp, fp, fn in sums:
        weight = tp + 0.5 * fp + 0.5 * fn
        present.append(weight > 0)
        values.append(
            {
                "pq": iou / weight if weight else 0.0,
                "sq": iou / tp if tp else 0.0,
                "rq": tp / weight if weight else 0.0,
            }
        )
    groups = {
        "All": [True] * categories.num_listed,
        "Things": list(categories.isthing),
        "Stuff": [not isthing for isthing in categories.isthing],
    }
    averages = {
        name: _mean([values[i] for i, member in enumerate(members) if member and present[i]])
        for name, members in groups.items()
    }
    # Not strict: categories that only segments use come last and are left out.
    per_class = dict(zip(categories.ids[: categories.num_listed], values, strict=False))
    return PanopticQuality(averages, per_class, statistics.to_dict(categories))


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average in order, one addition after the other, since the order decides the last bit."""
    result: dict[str, float] = {}
    for key in ("pq", "sq", "rq"):
        total = 0.0
        for value in values:
            total += value[key]
        result[key] = total / len(values) if values else float("nan")
    result["n"] = len(values)
    return result
