"""Cityscapes' instance level: AP over IoU 0.5 ... 0.95 and AP at 0.5, of masks that may overlap.

The results are those of ``evalInstanceLevelSemanticLabeling`` of cityscapesScripts 2.3.0.

Differences from the original:
    Overlaps of a mask with all instances are one histogram of the instance map under the mask.
    There is no cache of the ground truth and no global state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS, INSTANCE_FACTOR

from .tables import render_table

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
"""IoU thresholds with the noise of ``arange``, since comparisons are exact."""

MIN_PIXELS = 100
"""Smaller instances are ignore regions: neither found nor missed."""

INSTANCE_LABELS = tuple(
    label for label in CITYSCAPES_LABELS if label.has_instances and not label.ignored
)
"""The evaluated classes."""

_CLASS_IDS = np.array([label.id for label in INSTANCE_LABELS])
# Raw values of the instance map: single caravans (29000 ...) are not among them.
_VOID_VALUES = np.array([label.id for label in CITYSCAPES_LABELS if label.ignored])
_NUM_VALUES = 1 << 16
_OTHER, _VOID, _FIRST = 0, 1, 2  # rows of the histograms; instances follow


@dataclass(frozen=True, eq=False)
class InstanceCounts:
    """Everything about one image that AP needs.

    Attributes:
        truth_value (np.ndarray): int64 ``(G,)``, values of the instance map, of the evaluated
            classes; below 1000: a group.
        truth_pixels (np.ndarray): int64 ``(G,)``.
        label (np.ndarray): int64 ``(P,)``, label ids of the predictions.
        score (np.ndarray): float64 ``(P,)``.
        pixels (np.ndarray): int64 ``(P,)``.
        void_pixels (np.ndarray): int64 ``(P,)``, of them on void.
        overlap (np.ndarray): int32 ``(P, G)``, common pixels.
    """

    truth_value: np.ndarray
    truth_pixels: np.ndarray
    label: np.ndarray
    score: np.ndarray
    pixels: np.ndarray
    void_pixels: np.ndarray
    overlap: np.ndarray

    @property
    def truth_label(self) -> np.ndarray:
        """Label ids of the ground truth, int64 ``(G,)``."""
        value = self.truth_value
        return np.where(value >= INSTANCE_FACTOR, value // INSTANCE_FACTOR, value)


def count_overlaps(
    instances: np.ndarray,
    masks: Iterable[np.ndarray],
    labels: Sequence[int],
    scores: Sequence[float],
) -> InstanceCounts:
    """Count one image.

    Args:
        instances (np.ndarray): ``(H, W)`` of ``*_instanceIds.png``.
        masks (Iterable[np.ndarray]): P masks, bool ``(H, W)``, read one after the other.
        labels (Sequence[int]): P label ids; labels without evaluated instances are skipped.
        scores (Sequence[float]): P scores.

    Returns:
        InstanceCounts: Without empty masks.

    Raises:
        ValueError: If a score is not finite or a mask has another size.
    """
    _check_scores(scores)
    rows, truth_value = _index_instances(instances)
    width = _FIRST + len(truth_value)
    kept, histograms = [], [np.zeros((0, width), np.int64)]
    for number, mask in enumerate(masks):
        if labels[number] not in _CLASS_IDS:
            continue
        if mask.shape != instances.shape:
            raise ValueError(
                f"mask {number} has the shape {mask.shape}, but the instance map "
                f"{instances.shape}; predict at the size of the annotation"
            )
        under = rows[np.flatnonzero(mask)]
        if len(under):
            kept.append(number)
            histograms.append(np.bincount(under, minlength=width)[None])
    truth_pixels = np.bincount(rows, minlength=width)[_FIRST:]
    return _make_counts(
        truth_value,
        truth_pixels,
        np.array(labels, np.int64)[kept],
        np.array(scores, np.float64)[kept],
        np.concatenate(histograms),
    )


def count_map_overlaps(
    instances: np.ndarray,
    index_map: np.ndarray,
    numbers: Sequence[int],
    labels: Sequence[int],
    scores: Sequence[float],
) -> InstanceCounts:
    """Count one image whose predictions do not overlap, in one pass for all of them.

    Args:
        instances (np.ndarray): ``(H, W)`` of ``*_instanceIds.png``.
        index_map (np.ndarray): Predicted segments, integers from 0, ``(H, W)``.
        numbers (Sequence[int]): P values of ``index_map``.
        labels (Sequence[int]): P label ids; labels without evaluated instances are skipped.
        scores (Sequence[float]): P scores.

    Returns:
        InstanceCounts: As :func:`count_overlaps` of the P masks.

    Raises:
        ValueError: If a score is not finite or the map has another size.
    """
    _check_scores(scores)
    if index_map.shape != instances.shape:
        raise ValueError(
            f"the map has the shape {index_map.shape}, but the instance map {instances.shape}; "
            "predict at the size of the annotation"
        )
    rows, truth_value = _index_instances(instances)
    width = _FIRST + len(truth_value)
    height = 1 + max([int(index_map.max()), *numbers])
    codes = index_map.ravel().astype(np.int64) * width + rows
    table = np.bincount(codes, minlength=height * width).reshape(height, width)
    kept = [
        k for k, number in enumerate(numbers) if labels[k] in _CLASS_IDS and table[number].any()
    ]
    return _make_counts(
        truth_value,
        table.sum(0)[_FIRST:],
        np.array(labels, np.int64)[kept],
        np.array(scores, np.float64)[kept],
        table[np.array(numbers, np.int64)[kept]],
    )


def _make_counts(
    truth_value: np.ndarray,
    truth_pixels: np.ndarray,
    label: np.ndarray,
    score: np.ndarray,
    histogram: np.ndarray,
) -> InstanceCounts:
    return InstanceCounts(
        truth_value,
        truth_pixels,
        label,
        score,
        histogram.sum(1),
        histogram[:, _VOID],
        histogram[:, _FIRST:].astype(np.int32),
    )


def _check_scores(scores: Sequence[float]) -> None:
    wrong = np.flatnonzero(~np.isfinite(np.array(scores, np.float64)))
    if len(wrong):
        raise ValueError(
            f"the score of prediction {wrong[0]} is {scores[wrong[0]]}; scores must be finite"
        )


def _index_instances(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the instances of the evaluated classes.

    Args:
        instances (np.ndarray): ``(H, W)``.

    Returns:
        tuple[np.ndarray, np.ndarray]: uint16 ``(H * W,)``, row of each pixel in the histograms;
        int64 ``(G,)``, values of the instances in the order of the rows.
    """
    flat = instances.ravel()
    if flat.size and (flat.min() < 0 or flat.max() >= _NUM_VALUES):
        raise ValueError("an instance map must hold values of 16 bits")
    present = np.flatnonzero(np.bincount(flat, minlength=_NUM_VALUES))
    label = np.where(present >= INSTANCE_FACTOR, present // INSTANCE_FACTOR, present)
    values = present[np.isin(label, _CLASS_IDS)]
    row_of = np.full(_NUM_VALUES, _OTHER, np.uint16)
    row_of[_VOID_VALUES] = _VOID
    row_of[values] = np.arange(_FIRST, _FIRST + len(values))
    return row_of[flat], values


@dataclass(frozen=True, eq=False)
class _Verdicts:
    """Judgement of one image's predictions at every threshold.

    Attributes:
        hit (np.ndarray): bool ``(T, P)``, true positives.
        false (np.ndarray): bool ``(T, P)``, false positives; what is neither is ignored.
        missed (np.ndarray): int64 ``(T, C)``, ground truth that nothing matches.
    """

    hit: np.ndarray
    false: np.ndarray
    missed: np.ndarray


def _required(counts: InstanceCounts) -> np.ndarray:
    """Bool ``(G,)``: the instances that must be found."""
    return (counts.truth_value >= INSTANCE_FACTOR) & (counts.truth_pixels >= MIN_PIXELS)


def _judge(counts: InstanceCounts) -> _Verdicts:
    same = counts.label[:, None] == counts.truth_label
    common = np.where(same, counts.overlap, 0).astype(np.int64)
    iou = common / (counts.pixels[:, None] + counts.truth_pixels - common)
    required = _required(counts)
    best, partner = _best_partner(np.where(required, iou, 0.0))
    matches = best > THRESHOLDS[:, None]
    hit, missed = _award(counts, partner, matches)
    group = counts.truth_value < INSTANCE_FACTOR
    small = counts.truth_pixels < MIN_PIXELS
    # A small group counts twice, as in the original.
    ignored = counts.void_pixels + common[:, group].sum(1) + common[:, small].sum(1)
    excused = ignored / counts.pixels > THRESHOLDS[:, None]
    return _Verdicts(hit, (matches & ~hit) | (~matches & ~excused), missed)


def _best_partner(iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find each prediction's best instance; above 0.5 there is only one, instances are disjoint."""
    if not iou.size:
        return np.zeros(len(iou)), np.zeros(len(iou), np.int64)
    return iou.max(1), iou.argmax(1)


def _award(
    counts: InstanceCounts, partner: np.ndarray, matches: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give each instance to the matching prediction with the highest score."""
    required = _required(counts)
    hit = np.zeros_like(matches)
    missed = np.zeros((len(THRESHOLDS), len(_CLASS_IDS)), np.int64)
    by_score = np.argsort(-counts.score, kind="stable")
    for row in range(len(THRESHOLDS)):
        candidates = by_score[matches[row, by_score]]
        found, first = np.unique(partner[candidates], return_index=True)
        hit[row, candidates[first]] = True
        open_ = required.copy()
        open_[found] = False
        missed[row] = (counts.truth_label[open_] == _CLASS_IDS[:, None]).sum(1)
    return hit, missed


def average_precision(score: np.ndarray, correct: np.ndarray, missed: int) -> float:
    """Compute the area under Cityscapes' precision-recall curve.

    Args:
        score (np.ndarray): float64 ``(N,)``, of the predictions that count.
        correct (np.ndarray): bool ``(N,)``, true positives.
        missed (int): Ground truth without any match.

    Returns:
        float: 0 if there are no predictions.
    """
    if not len(score):
        return 0.0
    order = np.argsort(score, kind="stable")
    _, first = np.unique(score[order], return_index=True)
    below = np.concatenate([[0], np.cumsum(correct[order])])[first]  # correct ones, lower score
    hits = int(correct.sum()) - below
    precision = np.append(hits / (len(score) - first), 1.0)
    total = int(correct.sum()) + missed
    recall = np.append(hits / total if total else np.zeros(len(hits)), 0.0)
    steps = np.concatenate([recall[:1], recall, [0.0]])
    return float(np.dot(precision, np.convolve(steps, [-0.5, 0.0, 0.5], "valid")))


@dataclass(frozen=True, eq=False)
class InstanceScores:
    """AP as fractions.

    Attributes:
        matrix (np.ndarray): float64 ``(C, T)``, AP per class and threshold; nan for a class
            without ground truth.
    """

    matrix: np.ndarray

    @property
    def class_ap(self) -> dict[str, float]:
        """AP by class name, mean over the thresholds."""
        return dict(zip(_names(), self.matrix.mean(1).tolist(), strict=True))

    @property
    def class_ap50(self) -> dict[str, float]:
        """AP at IoU 0.5 by class name."""
        return dict(zip(_names(), self.matrix[:, 0].tolist(), strict=True))

    def means(self) -> dict[str, float]:
        """Average over the classes with ground truth: ``AP`` and ``AP50``, as fractions."""
        return {"AP": _nan_mean(self.matrix), "AP50": _nan_mean(self.matrix[:, 0])}


def instance_scores(images: Sequence[InstanceCounts]) -> InstanceScores:
    """Compute AP for every class and threshold.

    Args:
        images (Sequence[InstanceCounts]): One per image.

    Returns:
        InstanceScores: Fractions.
    """
    verdicts = [_judge(counts) for counts in images]
    if not images:
        return InstanceScores(np.full((len(_CLASS_IDS), len(THRESHOLDS)), np.nan))
    score = np.concatenate([counts.score for counts in images])
    label = np.concatenate([counts.label for counts in images])
    hit = np.concatenate([verdict.hit for verdict in verdicts], axis=1)
    false = np.concatenate([verdict.false for verdict in verdicts], axis=1)
    missed = np.sum([verdict.missed for verdict in verdicts], axis=0)
    wanted = np.concatenate([counts.truth_label[_required(counts)] for counts in images])
    matrix = np.full((len(_CLASS_IDS), len(THRESHOLDS)), np.nan)
    for c, class_id in enumerate(_CLASS_IDS):
        if not (wanted == class_id).any():
            continue
        for t in range(len(THRESHOLDS)):
            used = (label == class_id) & (hit[t] | false[t])
            matrix[c, t] = average_precision(score[used], hit[t, used], int(missed[t, c]))
    return InstanceScores(matrix)


def instance_table(scores: InstanceScores) -> str:
    """Draw AP and AP50 per class, in percent."""
    ap50 = scores.class_ap50
    rows: list[list[object]] = [
        [name, 100 * ap, 100 * ap50[name]] for name, ap in scores.class_ap.items()
    ]
    means = scores.means()
    rows.append(["mean", 100 * means["AP"], 100 * means["AP50"]])
    return render_table("Cityscapes, instance level", ["class", "AP", "AP50"], rows)


def _names() -> list[str]:
    return [label.name for label in INSTANCE_LABELS]


def _nan_mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else float("nan")
