"""Why segments are not matched, and what mending one kind of error alone would give.

In the manner of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020), for panoptic maps. Every false negative and every false positive has exactly
one kind, the first that fits:

``wrong_class``
    A missed segment and an unmatched prediction of another class have IoU > 0.5.
``split``
    Unmatched predictions of the right class have most of their pixels in one segment, which is
    matched already, or would be by two or more of them together.
``merged``
    Most of a missed segment is covered by a prediction of its class, which is matched with
    another one, or would match two or more of them together.
``boundary``
    A missed segment and an unmatched prediction of its class have an IoU of 0.3 to 0.5.
``void``
    Most of a missed segment was left without a label.
``missed``, ``invented``
    What is left of the missed segments and of the predictions.

``imprecise`` is what matched segments lack to IoU 1. Since PQ of a class is
``sum of IoU / W`` with ``W = TP + FP/2 + FN/2``, what it lacks to 1 is exactly
``(sum of (1 - IoU) + FP/2 + FN/2) / W``, and every kind has its share in it: shares add up.

Differences from the original:
    Mending is done on the map of the image, and everything is counted again. Values after mending
    do not add up, since each supposes all other errors to stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .panoptic_quality import (
    UNLISTED,
    ImageMatch,
    Pairing,
    SegmentMap,
    count_pairs,
    pair_segments,
    void_pixels,
)

KINDS = (
    *("imprecise", "missed", "invented", "wrong_class", "split", "merged", "boundary", "void"),
)
"""Kinds of errors; positions are the codes in :class:`ImageErrors`."""
MENDING = {
    "imprecise": "every match gets IoU 1",
    "missed": "each missed segment is added with its true mask and class",
    "invented": "each invented segment is removed; its pixels become void",
    "wrong_class": "the prediction gets the class of the segment that it covers",
    "split": "the pieces are joined, with the matched one where there is one",
    "merged": "the prediction is cut along the true borders; the largest piece keeps the rest",
    "boundary": "the prediction gets the true mask; what it loses becomes void",
    "void": "the pixels left void in the segment become a segment of its class",
}
"""What is done to the map, by kind."""
RIGHT = -1
"""Code of what is no error: matched, or not counted (crowd, void, excused by void)."""
_NEAR = 0.3


@dataclass(frozen=True, eq=False)
class ImageErrors:
    """The errors of one image.

    Attributes:
        match (ImageMatch): What counts towards PQ.
        mended (dict[str, ImageMatch]): The same after mending one kind of error.
        gt_kind (np.ndarray): int8 ``(S,)``, position in :data:`KINDS` or :data:`RIGHT` by slot.
        pred_kind (np.ndarray): int8 ``(P,)``, likewise.
        partner (np.ndarray): int64 ``(P,)``, slot of the ground truth that a prediction is
            matched with or was mistaken for; -1 without.
        iou (np.ndarray): float64 ``(P,)``, of the best segment of any class; 0 without.
        pixels (tuple): Categories of ground truth and prediction (:data:`UNLISTED` for void) and
            their common pixels, int64 ``(Q,)`` each; void of the ground truth is left out.
    """

    match: ImageMatch
    mended: dict[str, ImageMatch]
    gt_kind: np.ndarray
    pred_kind: np.ndarray
    partner: np.ndarray
    iou: np.ndarray
    pixels: tuple[np.ndarray, np.ndarray, np.ndarray]


def find_errors(gt: SegmentMap, pred: SegmentMap) -> ImageErrors:
    """Tell the kinds of the errors of an image, and mend each.

    Args:
        gt: Ground truth.
        pred: Prediction of the same shape.

    Returns:
        ImageErrors: Of this image.
    """
    work = _Sorting(gt, pred)
    for step in (work.wrong_class, work.split, work.merged, work.boundary, work.void):
        step()
    work.rest()
    match = work.pairing.to_match(gt, pred)
    mended = {"imprecise": replace(match, iou=np.ones_like(match.iou))}
    for kind in KINDS[1:]:
        mended[kind] = work.mend(kind) if work.edits[kind] else match
    best = np.zeros(len(pred.ids))
    np.maximum.at(best, work.p[work.valid], work.iou[work.valid])
    seen = work.g > 0
    pixels = (gt.category[work.g[seen]], pred.category[work.p[seen]], work.n[seen])
    wrong = work.pairing.wrong
    return ImageErrors(
        match,
        mended,
        work.gt_kind,
        np.where(wrong, work.pred_kind, RIGHT).astype(np.int8),
        work.partner,
        best,
        pixels,
    )


class _Sorting:
    """Sorts the unmatched segments of one image, and notes how to mend them.

    ``edits`` has, by kind, pairs of slots (ground truth, prediction); -1 stands for a new one.
    """

    def __init__(self, gt: SegmentMap, pred: SegmentMap) -> None:
        self.gt, self.pred = gt, pred
        self.g, self.p, self.n = count_pairs(gt, pred)
        self.pairing: Pairing = pair_segments(gt, pred, self.g, self.p, self.n)
        # Pixels of predictions on void count nowhere.
        self.area = pred.area - void_pixels(pred, self.g, self.p, self.n)
        listed = (gt.category != UNLISTED) & ~gt.crowd
        self.valid = listed[self.g] & (pred.category != UNLISTED)[self.p]
        union = self.area[self.p] + gt.area[self.g] - self.n
        self.iou = np.divide(self.n, union, out=np.zeros(len(self.n)), where=union > 0)
        self.same = self.valid & (gt.category[self.g] == pred.category[self.p])
        self.open_gt = self.pairing.missed.copy()
        self.open_pred = pred.category != UNLISTED
        self.open_pred[self.pairing.pred_slot] = False
        self.gt_kind = np.full(len(gt.ids), RIGHT, np.int8)
        self.pred_kind = np.full(len(pred.ids), RIGHT, np.int8)
        self.partner = np.full(len(pred.ids), -1, np.int64)
        self.partner[self.pairing.pred_slot] = self.pairing.gt_slot
        self.found = np.full(len(gt.ids), -1, np.int64)
        self.found[self.pairing.gt_slot] = self.pairing.pred_slot
        self.edits: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}

    def wrong_class(self) -> None:
        hit = self.valid & ~self.same & (self.iou > 0.5)
        hit &= self.open_gt[self.g] & self.open_pred[self.p]
        for g, p in zip(self.g[hit].tolist(), self.p[hit].tolist(), strict=True):
            self._note("wrong_class", g, p)

    def split(self) -> None:
        """Note the pieces that a segment of the ground truth fell into."""
        inside = self.same & (2 * self.n > self.area[self.p]) & self.open_pred[self.p]
        inside &= self.open_gt[self.g] | (self.found[self.g] >= 0)
        for g in np.unique(self.g[inside]).tolist():
            pieces = np.flatnonzero(inside & (self.g == g))
            if self.found[g] < 0:
                common = self.n[pieces].sum()
                union = self.area[self.p[pieces]].sum() + self.gt.area[g] - common
                if len(pieces) < 2 or not 2 * common > union:
                    continue
            for p in self.p[pieces[np.argsort(-self.n[pieces], kind="stable")]].tolist():
                self._note("split", g, p)

    def merged(self) -> None:
        """Note the segments of the ground truth that one prediction covers."""
        covered = self.same & (2 * self.n > self.gt.area[self.g]) & self.open_gt[self.g]
        covered &= self.open_pred[self.p] | (self.partner[self.p] >= 0)
        covered &= self.pred_kind[self.p] == RIGHT
        for p in np.unique(self.p[covered]).tolist():
            parts = np.flatnonzero(covered & (self.p == p))
            if self.open_pred[p]:
                common = self.n[parts].sum()
                union = self.area[p] + self.gt.area[self.g[parts]].sum() - common
                if len(parts) < 2 or not 2 * common > union:
                    continue
            matched = not self.open_pred[p]
            for g in self.g[parts[np.argsort(-self.n[parts], kind="stable")]].tolist():
                self._note("merged", g, p, keep=matched)

    def boundary(self) -> None:
        near = np.flatnonzero(self.same & (self.iou >= _NEAR))
        for i in near[np.argsort(-self.iou[near], kind="stable")].tolist():
            if self.open_gt[self.g[i]] and self.open_pred[self.p[i]]:
                self._note("boundary", int(self.g[i]), int(self.p[i]))

    def void(self) -> None:
        left = (self.p == 0) & self.open_gt[self.g] & (2 * self.n > self.gt.area[self.g])
        for g in self.g[left].tolist():
            self._note("void", g, -1)

    def rest(self) -> None:
        for g in np.flatnonzero(self.open_gt).tolist():
            self._note("missed", g, -1)
        for p in np.flatnonzero(self.open_pred & self.pairing.wrong).tolist():
            self._note("invented", -1, p)

    def _note(self, kind: str, g: int, p: int, keep: bool = False) -> None:
        code = KINDS.index(kind)
        if g >= 0 and self.open_gt[g]:
            self.open_gt[g] = False
            self.gt_kind[g] = code
        if p >= 0 and not keep:
            self.open_pred[p] = False
            self.pred_kind[p] = code
            self.partner[p] = g if self.partner[p] < 0 else self.partner[p]
        self.edits[kind].append((g, p))

    def mend(self, kind: str) -> ImageMatch:
        """Change the map as :data:`MENDING` says, and count again."""
        p, category = self.p.copy(), self.pred.category.tolist()
        main: dict[int, int] = {}
        for g0, p0 in self.edits[kind]:
            if kind == "wrong_class":
                category[p0] = self.gt.category[g0]
            elif kind == "invented":
                p[self.p == p0] = 0
            elif kind == "split":
                target = self.found[g0] if self.found[g0] >= 0 else main.setdefault(g0, p0)
                p[self.p == p0] = target
            elif kind == "merged" and self.pred_kind[p0] != RIGHT and p0 not in main:
                main[p0] = g0  # the largest part of an unmatched one keeps the rest
            elif kind == "boundary":
                p[(self.p == p0) & (self.g != g0)] = 0
            else:
                part = self.g == g0
                part &= {"void": self.p == 0, "merged": self.p == p0}.get(kind, True)
                p[part] = len(category)
                category.append(self.gt.category[g0])
        if kind == "boundary":  # last, so that a mended mask takes nothing from another one
            for g0, p0 in self.edits[kind]:
                p[self.g == g0] = p0
        return self._count(p, np.array(category, np.int32))

    def _count(self, p: np.ndarray, category: np.ndarray) -> ImageMatch:
        number = len(category)
        code, inverse = np.unique(self.g * number + p, return_inverse=True)
        count = np.bincount(inverse, self.n).astype(np.int64)
        area = np.bincount(p, self.n, number)
        category[area == 0] = UNLISTED  # joined, or gave all its pixels away
        pred = replace(self.pred, ids=np.arange(number), category=category, area=area)
        pairing = pair_segments(self.gt, pred, code // number, code % number, count)
        return pairing.to_match(self.gt, pred)
