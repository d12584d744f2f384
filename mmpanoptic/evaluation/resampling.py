"""Intervals of PQ from resampled images, on counts: nothing is matched again.

The bootstrap of Efron ("Bootstrap Methods: Another Look at the Jackknife", 1979): images are drawn
with replacement, as many as there are; an interval goes from the 2.5th to the 97.5th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .panoptic_quality import ImageMatch

GROUPS = ("All", "Things", "Stuff")
MEASURES = ("pq", "sq", "rq")
_CELLS = 1 << 24  # numbers of one block of resampled counts, 128 MiB


def class_counts(matches: Sequence[ImageMatch], num_categories: int) -> np.ndarray:
    """Sum up each image by class.

    Args:
        matches: One an image.
        num_categories (int): C, the listed ones; others are left out.

    Returns:
        np.ndarray: float64 ``(I, C, 4)``: sum of IoU, TP, FP, FN.
    """
    counts = np.zeros((len(matches), num_categories, 4))
    for row, match in zip(counts, matches, strict=True):
        columns = (
            (match.category, match.iou),
            (match.category, None),
            (match.false_positive, None),
            (match.false_negative, None),
        )
        for column, (category, weight) in enumerate(columns):
            sums = np.bincount(category, weight, minlength=num_categories)
            row[:, column] = sums[:num_categories]
    return counts


def quality_of_counts(
    counts: np.ndarray, isthing: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute PQ, SQ and RQ.

    Args:
        counts (np.ndarray): float64 ``(..., C, 4)``.
        isthing: Of each class.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: Of classes ``(..., C, 3)``, nan where one does
        not occur; of :data:`GROUPS` ``(..., 3, 3)``, means over the classes that occur, nan without
        any; and how many occur ``(..., 3)``.
    """
    iou, tp, fp, fn = np.moveaxis(counts, -1, 0)
    weight = tp + 0.5 * fp + 0.5 * fn
    present = weight > 0
    some = np.where(present, weight, np.nan)
    sq = np.divide(iou, tp, out=np.zeros_like(iou), where=tp > 0)
    classes = np.stack([iou / some, np.where(present, sq, np.nan), tp / some], axis=-1)
    things = np.asarray(isthing, bool)
    members = np.stack([np.ones_like(things), things, ~things]).astype(float)
    # Means over what occurs, by one product for all groups.
    number = present.astype(float) @ members.T
    total = np.swapaxes(np.nan_to_num(classes), -1, -2) @ members.T
    safe = np.where(number > 0, number, np.nan)
    groups = np.swapaxes(total, -1, -2) / safe[..., None]
    return classes, groups, number.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Resampled:
    """PQ, SQ and RQ of resampled images.

    Attributes:
        classes (np.ndarray): float64 ``(B, C, 3)``.
        groups (np.ndarray): float64 ``(B, 3, 3)``.
    """

    classes: np.ndarray
    groups: np.ndarray


def resample(
    counts: np.ndarray, isthing: Sequence[bool], samples: int = 1000, seed: int = 0
) -> Resampled:
    """Draw images again and again.

    Two runs on the same images, with the same seed, get the same images in each draw, so that
    their differences are paired.

    Args:
        counts (np.ndarray): From :func:`class_counts`.
        isthing: Of each class.
        samples (int): B, number of draws.
        seed (int): Of the draws.

    Returns:
        Resampled: One row a draw.
    """
    images, number = counts.shape[:2]
    flat = counts.reshape(images, -1)
    random = np.random.default_rng(seed)
    block = max(1, _CELLS // max(1, images + flat.shape[1]))
    classes, groups = [], []
    for start in range(0, samples, block):
        size = min(block, samples - start)
        times = random.multinomial(images, np.full(images, 1 / images), size) if images else 0
        drawn = (times @ flat if images else np.zeros((size, flat.shape[1]))).reshape(
            size, number, 4
        )
        found = quality_of_counts(drawn, isthing)
        classes.append(found[0])
        groups.append(found[1])
    return Resampled(np.concatenate(classes), np.concatenate(groups))


def interval(values: np.ndarray, coverage: float = 0.95) -> list[float | None]:
    """Give the middle of the draws.

    Args:
        values (np.ndarray): float64 ``(B,)``; draws without a value (nan) are left out.
        coverage (float): Share of the draws inside.

    Returns:
        list[float | None]: Lower and upper end; None if no draw has a value.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return [None, None]
    tail = 50 * (1 - coverage)
    low, high = np.percentile(known, [tail, 100 - tail])
    return [float(low), float(high)]
