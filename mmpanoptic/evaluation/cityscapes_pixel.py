"""Cityscapes' pixel level: IoU, instance-weighted IoU (iIoU), both per class and per category.

Integers are counted exactly; the weights of iIoU are the benchmark's mean instance sizes. The
results are those of ``evalPixelLevelSemanticLabeling`` of cityscapesScripts 2.3.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS, INSTANCE_FACTOR

from .tables import render_table

NUM_LABELS = len(CITYSCAPES_LABELS)

MEAN_INSTANCE_SIZE = {
    "bicycle": 4672.3249222261,
    "caravan": 36771.8241758242,
    "motorcycle": 6298.7200839748,
    "rider": 3930.4788056518,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "car": 12794.0202738185,
    "person": 3462.4756337644,
    "truck": 27855.1264367816,
    "trailer": 16926.9763313609,
}
"""Mean size of the instances of the benchmark in pixels; published constants."""

_LABEL_IDS = np.arange(NUM_LABELS)
_IGNORED = np.array([label.ignored for label in CITYSCAPES_LABELS])
_CATEGORIES = list(dict.fromkeys(label.category for label in CITYSCAPES_LABELS))
_CATEGORY_OF = np.array([_CATEGORIES.index(label.category) for label in CITYSCAPES_LABELS])


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Counts of one image or, added with :func:`sum_pixel_counts`, of many.

    Attributes:
        matrix (np.ndarray): int64 ``(34, 34)``, rows = ground truth, by label id.
        instances (np.ndarray): int64 ``(K, 4)``, per ground-truth instance of an evaluated class:
            label id, pixels, pixels predicted as its class, pixels predicted as its category.
    """

    matrix: np.ndarray
    instances: np.ndarray


def count_pixels(truth: np.ndarray, instances: np.ndarray, prediction: np.ndarray) -> PixelCounts:
    """Count one image.

    Args:
        truth (np.ndarray): Label ids ``(H, W)`` of ``*_labelIds.png``.
        instances (np.ndarray): ``(H, W)`` of ``*_instanceIds.png``.
        prediction (np.ndarray): Predicted label ids ``(H, W)``.

    Returns:
        PixelCounts: Of this image.

    Raises:
        ValueError: If a map holds other values than the 34 label ids.
    """
    check_label_ids(truth, "the ground truth")
    check_label_ids(prediction, "the prediction")
    codes = truth.astype(np.int64) * NUM_LABELS + prediction
    matrix = np.bincount(codes.ravel(), minlength=NUM_LABELS**2)
    return PixelCounts(
        matrix.reshape(NUM_LABELS, NUM_LABELS), _count_instances(instances, prediction)
    )


def check_label_ids(labels: np.ndarray, name: str) -> None:
    """Refuse values that are no label ids.

    Args:
        labels (np.ndarray): Integer map.
        name (str): For the message.

    Raises:
        ValueError: If a value lies outside ``[0, 33]``.
    """
    if labels.size and (labels.min() < 0 or labels.max() >= NUM_LABELS):
        wrong = sorted({int(labels.min()), int(labels.max())} - set(range(NUM_LABELS)))
        raise ValueError(
            f"{name} holds the value {wrong[0]}, but label ids go from 0 to {NUM_LABELS - 1}; "
            "write label ids (road is 7), not train ids (road is 0, void is 255)"
        )


def _count_instances(instances: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    where = np.flatnonzero(instances.ravel() > INSTANCE_FACTOR)
    values = instances.ravel()[where].astype(np.int64)
    predicted = prediction.ravel()[where]
    label = values // INSTANCE_FACTOR
    _check_instance_labels(label)
    correct = predicted == label
    in_category = _CATEGORY_OF[predicted] == _CATEGORY_OF[label]
    pixels = np.bincount(values)
    found = np.flatnonzero(pixels)
    found = found[~_IGNORED[found // INSTANCE_FACTOR]]
    counts = [
        found // INSTANCE_FACTOR,
        pixels[found],
        np.bincount(values[correct], minlength=len(pixels))[found],
        np.bincount(values[in_category], minlength=len(pixels))[found],
    ]
    return np.stack(counts, axis=1).astype(np.int64, copy=False)


def _check_instance_labels(labels: np.ndarray) -> None:
    if labels.size and labels.max() >= NUM_LABELS:
        raise ValueError(
            f"the instance map holds the label {labels.max()}, but label ids end at "
            f"{NUM_LABELS - 1}; its values must be label id * {INSTANCE_FACTOR} + number"
        )


def sum_pixel_counts(parts: Sequence[PixelCounts]) -> PixelCounts:
    """Add images; the instances stay in the order of the images.

    Args:
        parts (Sequence[PixelCounts]): One per image.

    Returns:
        PixelCounts: Of all.
    """
    matrix = np.zeros((NUM_LABELS, NUM_LABELS), np.int64)
    for part in parts:
        matrix += part.matrix
    instances = [np.zeros((0, 4), np.int64), *(part.instances for part in parts)]
    return PixelCounts(matrix, np.concatenate(instances))


@dataclass(frozen=True)
class PixelScores:
    """Scores as fractions; nan where a class is ignored, absent, or (iIoU) no thing.

    Attributes:
        class_iou (dict[str, float]): By label name, all 34 labels.
        class_iiou (dict[str, float]): By label name.
        category_iou (dict[str, float]): By category, also ``void``.
        category_iiou (dict[str, float]): By category.
    """

    class_iou: dict[str, float]
    class_iiou: dict[str, float]
    category_iou: dict[str, float]
    category_iiou: dict[str, float]

    def means(self) -> dict[str, float]:
        """Average over classes and categories, as fractions; nan entries are left out."""
        return {
            "mIoU": _nan_mean(self.class_iou),
            "iIoU": _nan_mean(self.class_iiou),
            "category_mIoU": _nan_mean(self.category_iou),
            "category_iIoU": _nan_mean(self.category_iiou),
        }


def pixel_scores(counts: PixelCounts) -> PixelScores:
    """Compute all scores.

    Args:
        counts (PixelCounts): Of all images.

    Returns:
        PixelScores: Fractions.
    """
    class_iou, class_iiou = {}, {}
    for label in CITYSCAPES_LABELS:
        members = np.equal(_LABEL_IDS, label.id)
        evaluated = not label.ignored
        class_iou[label.name] = _iou(counts.matrix, members) if evaluated else np.nan
        thing = evaluated and label.has_instances
        class_iiou[label.name] = _weighted_iou(counts, members, column=2) if thing else np.nan
    category_iou, category_iiou = {}, {}
    for index, name in enumerate(_CATEGORIES):
        group = np.equal(_CATEGORY_OF, index)
        category_iou[name] = _iou(counts.matrix, group & ~_IGNORED)
        # Predictions of a category's ignored labels (caravan) are no mistakes here.
        things = all(CITYSCAPES_LABELS[i].has_instances for i in np.flatnonzero(group))
        category_iiou[name] = _weighted_iou(counts, group, column=3) if things else np.nan
    return PixelScores(class_iou, class_iiou, category_iou, category_iiou)


def _false_positives(matrix: np.ndarray, members: np.ndarray) -> int:
    """Pixels of other evaluated labels that are predicted as one of ``members``."""
    others = ~_IGNORED & ~members
    return int(matrix[np.ix_(others, members)].sum())


def _iou(matrix: np.ndarray, members: np.ndarray) -> float:
    hits = int(matrix[np.ix_(members, members)].sum())
    misses = int(matrix[members].sum()) - hits
    union = hits + misses + _false_positives(matrix, members)
    return hits / union if union else float("nan")


def _weighted_iou(counts: PixelCounts, members: np.ndarray, column: int) -> float:
    """Weight every instance with mean size / size.

    Args:
        counts (PixelCounts): Of all images.
        members (np.ndarray): bool ``(34,)``, the labels that count as correct.
        column (int): Of ``counts.instances``: the correct pixels.
    """
    rows = counts.instances[members[counts.instances[:, 0]]]
    size, correct = rows[:, 1], rows[:, column]
    mean = np.array([MEAN_INSTANCE_SIZE[CITYSCAPES_LABELS[i].name] for i in rows[:, 0]])
    weight = mean / size
    hits = float((correct * weight).sum())
    misses = float(((size - correct) * weight).sum())
    union = hits + misses + _false_positives(counts.matrix, members)
    return hits / union if union else float("nan")


def _nan_mean(scores: dict[str, float]) -> float:
    valid = [score for score in scores.values() if not np.isnan(score)]
    return sum(valid) / len(valid) if valid else float("nan")


def pixel_tables(scores: PixelScores) -> str:
    """Draw the scores per class and per category, in percent."""
    means = scores.means()
    evaluated = [label.name for label in CITYSCAPES_LABELS if not label.ignored]
    classes = _table_rows(evaluated, scores.class_iou, scores.class_iiou)
    classes.append(["mean", 100 * means["mIoU"], 100 * means["iIoU"]])
    names = [name for name in scores.category_iou if name != "void"]
    categories = _table_rows(names, scores.category_iou, scores.category_iiou)
    categories.append(["mean", 100 * means["category_mIoU"], 100 * means["category_iIoU"]])
    upper = render_table("Cityscapes, pixel level", ["class", "IoU", "iIoU"], classes)
    return upper + "\n" + render_table("Categories", ["category", "IoU", "iIoU"], categories)


def _table_rows(
    names: Sequence[str], iou: dict[str, float], iiou: dict[str, float]
) -> list[list[object]]:
    return [[name, 100 * iou[name], 100 * iiou[name]] for name in names]
