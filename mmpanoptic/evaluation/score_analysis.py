"""What scores are worth: calibration, and the threshold that would give the best PQ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .resampling import quality_of_counts

BINS = 10
_STEPS = 100


@dataclass(frozen=True, eq=False)
class ScoredSegments:
    """The predicted things of all images that have a score and count (TP or FP).

    Attributes:
        image (np.ndarray): int64 ``(K,)``, position of the image.
        category (np.ndarray): int64 ``(K,)``.
        score (np.ndarray): float64 ``(K,)``.
        iou (np.ndarray): float64 ``(K,)``, of the match; 0 of false positives.
    """

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    iou: np.ndarray


def calibrate(segments: ScoredSegments) -> dict[str, Any]:
    """Compare scores with how many of the segments are matches.

    Expected calibration error as in Naeini et al., "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", AAAI 2015: the mean gap between score and share of matches in ten bins of
    equal width, weighted by their segments. Scores above 1 belong to the last bin.

    Args:
        segments (ScoredSegments): Of all images.

    Returns:
        dict: ``bins`` (``low``, ``high``, ``n``, mean ``score``, share of matches ``right``),
        ``error`` (None without segments) and ``n``.
    """
    place = np.clip((segments.score * BINS).astype(np.int64), 0, BINS - 1)
    number = np.bincount(place, minlength=BINS)
    safe = np.maximum(number, 1)
    score = np.bincount(place, segments.score, BINS) / safe
    right = np.bincount(place, segments.iou > 0, BINS) / safe
    bins = [
        {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "n": int(number[k]),
            "score": float(score[k]) if number[k] else None,
            "right": float(right[k]) if number[k] else None,
        }
        for k in range(BINS)
    ]
    total = int(number.sum())
    error = float((number * abs(score - right)).sum() / total) if total else None
    return {"bins": bins, "error": error, "n": total}


def best_threshold(
    segments: ScoredSegments, counts: np.ndarray, isthing: Sequence[bool], seed: int = 0
) -> dict[str, Any] | None:
    """Choose a threshold of scores on a half of the images, and show what it does on the other.

    A thing below the threshold becomes void, so that a match becomes a false negative and a false
    positive vanishes; no other segment is changed by it, and the result is exact.

    Args:
        segments (ScoredSegments): Of all images.
        counts (np.ndarray): float64 ``(I, C, 4)`` of all segments.
        isthing: Of each class.
        seed (int): Of the halves.

    Returns:
        dict | None: ``threshold``, PQ of both halves without (``before``) and with it (``after``),
        each ``[chosen on, shown on]``, and the ``curve`` of (threshold, PQ, PQ). None without
        scores or with less than two images.
    """
    if not len(segments.score) or len(counts) < 2:
        return None
    half = np.zeros(len(counts), np.int64)
    half[np.random.default_rng(seed).permutation(len(counts))[len(counts) // 2 :]] = 1
    thresholds = np.unique(np.quantile(segments.score, np.linspace(0, 1, _STEPS + 1)))
    curve = []
    for threshold in thresholds.tolist():
        gone = segments.score < threshold
        changed = np.zeros((2, *counts.shape[1:]))
        matched = segments.iou[gone] > 0
        at = (half[segments.image[gone]], segments.category[gone])
        np.add.at(changed[..., 0], at, -segments.iou[gone])
        np.add.at(changed[..., 1], at, -1.0 * matched)
        np.add.at(changed[..., 2], at, -1.0 * ~matched)
        np.add.at(changed[..., 3], at, 1.0 * matched)
        sums = np.stack([counts[half == k].sum(0) for k in (0, 1)]) + changed
        groups = quality_of_counts(sums, isthing)[1]
        curve.append((threshold, *groups[:, 0, 0].tolist()))
    values = np.array(curve)
    if np.isnan(values[:, 1]).all():
        return None
    best = int(np.nanargmax(values[:, 1]))
    return {
        "threshold": float(values[best, 0]),
        "before": values[0, 1:].tolist(),  # nothing lies below the smallest score
        "after": values[best, 1:].tolist(),
        "curve": values.tolist(),
        "images": np.bincount(half, minlength=2).tolist(),
    }
