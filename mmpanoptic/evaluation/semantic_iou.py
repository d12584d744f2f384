"""Mean IoU from one confusion matrix of exact counts, by the definitions in use.

All definitions divide the same integers; they differ in the classes that they average and in what
they do with predicted labels outside the classes (void). None of them looks at pixels whose ground
truth is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tables import render_table


@dataclass(frozen=True)
class Definition:
    """One way to average.

    Attributes:
        of (str): Program that defines it so.
        drops_void_predictions (bool): A pixel predicted as void is no pixel at all; otherwise it
            is a missed pixel of its class.
        counts_false_classes (bool): Classes that are predicted but not in the ground truth count
            with IoU 0; otherwise only classes of the ground truth count.
    """

    of: str
    drops_void_predictions: bool
    counts_false_classes: bool


DEFINITIONS = {
    "mmseg": Definition("mmsegmentation's IoUMetric, mmdetection's SemSegMetric", False, True),
    "cityscapes": Definition("cityscapesScripts, pixel level", False, True),
    "detectron2": Definition("detectron2's SemSegEvaluator", True, False),
    "panoptic_deeplab": Definition("the authors' repository of Panoptic-DeepLab", True, True),
}
"""Definitions by name.

``mmseg`` and ``cityscapes`` are one formula on this matrix. Cityscapes' evaluator sees all 34
labels, so void predictions have several names there, which are all misses here too.
``panoptic_deeplab`` adds the IoUs of the classes with ground truth and divides by the number of
classes with ground truth or prediction, which is a mean with zeros for false classes.
"""


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by ground truth and prediction.

    Args:
        truth (np.ndarray): Integer labels; pixels outside ``[0, num_classes)`` are not counted.
        prediction (np.ndarray): Integer labels of the same shape; outside labels are void.
        num_classes (int): C.

    Returns:
        np.ndarray: int64 ``(C, C + 1)``, rows = ground truth, last column = void predictions.
    """
    width = num_classes + 1
    rows = _clip_labels(truth, num_classes)
    columns = _clip_labels(prediction, num_classes)
    counts = np.bincount((rows * width + columns).ravel(), minlength=width * width)
    return counts.reshape(width, width)[:-1].astype(np.int64, copy=False)


def _clip_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Widen to int64 and turn everything outside the classes into label C."""
    wide = labels.astype(np.int64)
    wide[(wide < 0) | (wide > num_classes)] = num_classes
    return wide


@dataclass(frozen=True, eq=False)
class SemanticScores:
    """Scores of one definition, as fractions; nan where nothing is defined.

    Attributes:
        iou (np.ndarray): float64 ``(C,)``.
        accuracy (np.ndarray): float64 ``(C,)``, correct pixels / pixels of the ground truth.
        mean_iou (float): mIoU.
        weighted_iou (float): IoU weighted by the pixels of the ground truth (fwIoU).
        mean_accuracy (float): mAcc.
        pixel_accuracy (float): aAcc.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    mean_iou: float
    weighted_iou: float
    mean_accuracy: float
    pixel_accuracy: float

    def averages(self) -> dict[str, float]:
        """Return mIoU, fwIoU, mAcc and aAcc as fractions."""
        return {
            "mIoU": self.mean_iou,
            "fwIoU": self.weighted_iou,
            "mAcc": self.mean_accuracy,
            "aAcc": self.pixel_accuracy,
        }


def semantic_scores(matrix: np.ndarray, definition: str = "mmseg") -> SemanticScores:
    """Compute IoU and accuracy.

    Args:
        matrix (np.ndarray): int64 ``(C, C + 1)`` from :func:`confusion_matrix`.
        definition (str): Key of :data:`DEFINITIONS`.

    Returns:
        SemanticScores: Fractions.

    Raises:
        ValueError: If there is no such definition.
    """
    check_definitions([definition])
    rule = DEFINITIONS[definition]
    counted = matrix[:, :-1] if rule.drops_void_predictions else matrix
    hits = np.diagonal(matrix)
    truth, predicted = counted.sum(1), matrix[:, :-1].sum(0)
    union = truth + predicted - hits
    averaged = union > 0 if rule.counts_false_classes else truth > 0
    iou = _divide(hits, np.where(averaged, union, 0))
    accuracy = _divide(hits, truth)
    total = float(truth.sum())
    weights = truth[truth > 0] / total if total else np.zeros(0)
    return SemanticScores(
        iou,
        accuracy,
        _mean(iou),
        float((iou[truth > 0] * weights).sum()) if total else float("nan"),
        _mean(accuracy),
        float(hits.sum()) / total if total else float("nan"),
    )


def check_definitions(names: Sequence[str]) -> None:
    """Refuse unknown names.

    Raises:
        ValueError: If a name is no key of :data:`DEFINITIONS`, or there is none.
    """
    unknown = [name for name in names if name not in DEFINITIONS]
    if unknown or not names:
        raise ValueError(
            f"unknown definition of mIoU {', '.join(map(repr, unknown)) or '(none given)'}; "
            f"known: {', '.join(DEFINITIONS)}"
        )


def semantic_table(scores: SemanticScores, names: Sequence[str], definition: str) -> str:
    """Draw IoU and accuracy per class, in percent, and the means."""
    rows: list[list[object]] = [
        [name, 100 * float(iou), 100 * float(accuracy)]
        for name, iou, accuracy in zip(names, scores.iou, scores.accuracy, strict=True)
    ]
    rows.append(["mean", 100 * scores.mean_iou, 100 * scores.mean_accuracy])
    title = f"Semantic segmentation, mIoU of {DEFINITIONS[definition].of}"
    return render_table(title, ["class", "IoU", "Acc"], rows)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    nan = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=nan, where=denominator > 0)


def _mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else float("nan")
