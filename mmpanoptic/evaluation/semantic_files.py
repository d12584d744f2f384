"""Mean IoU of folders of label maps."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmpanoptic.utils.jobs import run
from mmpanoptic.utils.label_png import read_label_png

from .matching_files import list_files, match_predictions, require_same_size
from .semantic_counts import SparseCounts, add_counts
from .semantic_iou import confusion_matrix

_SHIFTED = {"none": (False, False), "truth": (True, False), "both": (True, True)}
REDUCE_ZERO_LABEL = tuple(_SHIFTED)
"""Which maps use 0 for void and 1 for the first class."""


@dataclass(frozen=True)
class LabelMapFolders:
    """Two folders of label maps.

    Attributes:
        truth: Folder of the ground truth, searched with its sub-folders.
        prediction: Folder of the predictions, likewise.
        truth_suffix: End of the names of the ground truth; what precedes it is the image's id.
        prediction_suffix: End of the names of the predictions, which start with the id.
    """

    truth: str | os.PathLike[str]
    prediction: str | os.PathLike[str]
    truth_suffix: str = ".png"
    prediction_suffix: str = ".png"


class SemanticFileCounts(NamedTuple):
    """Pixels of a set of label maps.

    Attributes:
        matrix (np.ndarray): int64 ``(C, C + 1)``, see
            :func:`~mmpanoptic.evaluation.semantic_iou.confusion_matrix`.
        num_images (int): Number of images.
        void (dict[int, int]): Pixels of the ground truth by value, of values that are no class.
        all_ids (list[str]): Ids of the images of the ground truth, in order.
        positions (list[int]): Of the images that were counted.
    """

    matrix: np.ndarray
    num_images: int
    void: dict[int, int]
    all_ids: list[str]
    positions: list[int]


class _Pair(NamedTuple):
    truth: Path
    prediction: Path


def evaluate_semantic_files(
    folders: LabelMapFolders,
    num_classes: int,
    reduce_zero_label: str = "none",
    nproc: int = 1,
    label: str | None = None,
    choose: Callable[[Sequence[str]], list[int]] | None = None,
) -> SemanticFileCounts:
    """Count pixels by ground truth and prediction.

    Args:
        folders: Where the maps lie.
        num_classes: C. Ground truth outside ``[0, C)`` is void.
        reduce_zero_label: One of :data:`REDUCE_ZERO_LABEL`; there 0 becomes void, and 1 class 0.
        nproc: Number of processes.
        label: Text of the progress bar; without it none is shown.
        choose: Takes the ids of all images, returns the ascending positions of those to count.
            Default: all.

    Returns:
        SemanticFileCounts: Matrix, number of images, and what is void.

    Raises:
        FileNotFoundError: If a folder is absent or empty.
        ValueError: If a file is wrong, or an image has no prediction or several.
    """
    if num_classes < 1:
        raise ValueError(f"the number of classes must be at least 1, got {num_classes}")
    if reduce_zero_label not in _SHIFTED:
        raise ValueError(
            f"reduce_zero_label must be one of {', '.join(_SHIFTED)}, got {reduce_zero_label!r}"
        )
    truths = _truths(folders)
    ids = list(truths)
    positions = list(range(len(ids))) if choose is None else choose(ids)
    pairs = _pairs(folders, truths, [ids[position] for position in positions])
    count = partial(_count_pair, num_classes=num_classes, shifted=_SHIFTED[reduce_zero_label])
    parts, void = [], Counter[int]()
    for part, outside in run(count, pairs, nproc, label):
        parts.append(part)
        void.update(outside)
    matrix = add_counts(parts, (num_classes, num_classes + 1))
    return SemanticFileCounts(matrix, len(pairs), dict(sorted(void.items())), ids, positions)


def _truths(folders: LabelMapFolders) -> dict[str, Path]:
    truths: dict[str, Path] = {}
    for path in list_files(folders.truth, folders.truth_suffix):
        image_id = path.name.removesuffix(folders.truth_suffix)
        if image_id in truths:
            raise ValueError(
                f"{truths[image_id]} and {path} have the same name; images need names of their own"
            )
        truths[image_id] = path
    return truths


def _pairs(folders: LabelMapFolders, truths: dict[str, Path], chosen: list[str]) -> list[_Pair]:
    files = list_files(folders.prediction, folders.prediction_suffix)
    # Among the ids of all images, since an id may begin like another one.
    found = match_predictions(list(truths), files, folders.prediction_suffix, chosen)
    return [_Pair(truths[image_id], found[image_id]) for image_id in chosen]


def _count_pair(
    pair: _Pair, num_classes: int, shifted: tuple[bool, bool]
) -> tuple[SparseCounts, dict[int, int]]:
    truth, prediction = read_label_png(pair.truth), read_label_png(pair.prediction)
    require_same_size(truth, prediction, pair.truth, pair.prediction)
    # A shift by one turns void into -1, which is outside the classes.
    rows = truth.astype(np.int64) - shifted[0]
    columns = prediction.astype(np.int64) - shifted[1]
    matrix = confusion_matrix(rows, columns, num_classes)
    values, counts = np.unique(truth[(rows < 0) | (rows >= num_classes)], return_counts=True)
    return SparseCounts.from_dense(matrix), dict(zip(values.tolist(), counts.tolist(), strict=True))
