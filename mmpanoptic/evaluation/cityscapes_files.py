"""Cityscapes' files: where the ground truth lies, and predictions as the benchmark takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.archives import is_file
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from mmpanoptic.utils.jobs import run
from mmpanoptic.utils.label_png import read_label_png, read_mask_png, write_label_png

from .cityscapes_instance import (
    InstanceCounts,
    InstanceScores,
    count_overlaps,
    instance_scores,
)
from .cityscapes_pixel import (
    PixelCounts,
    PixelScores,
    check_label_ids,
    count_pixels,
    pixel_scores,
    sum_pixel_counts,
)
from .matching_files import list_files, match_predictions, require_same_size

LABELS_SUFFIX = "_gtFine_labelIds.png"
INSTANCES_SUFFIX = "_gtFine_instanceIds.png"
IMAGE_SUFFIX = "_leftImg8bit"
IMAGE_FOLDER, TRUTH_FOLDER = "leftImg8bit", "gtFine"
UNLABELED = 0
"""Label id of pixels without a prediction."""


def cityscapes_image_id(path: str | os.PathLike[str]) -> str:
    """Return ``<city>_<sequence>_<frame>`` of an image's path."""
    return Path(path).stem.removesuffix(IMAGE_SUFFIX)


def cityscapes_truth(
    img_path: str | os.PathLike[str], suffix: str, gt_root: str | os.PathLike[str] | None = None
) -> Path:
    """Find a ground-truth file of an image.

    Args:
        img_path: The image.
        suffix: :data:`LABELS_SUFFIX` or :data:`INSTANCES_SUFFIX`.
        gt_root: Folder with one folder per city, in a zip archive or not. None finds
            ``gtFine/<split>/<city>/`` from the image: beside ``leftImg8bit/<split>/<city>/`` in the
            official layout, beside ``<split>/`` where images lie in ``<split>/<city>/`` or
            ``<split>/``.

    Returns:
        Path: An existing file.

    Raises:
        ValueError: If there is no ``gtFine`` beside the image and ``gt_root`` is None.
        FileNotFoundError: If there is no such file.
    """
    path, image_id = Path(img_path), cityscapes_image_id(img_path)
    split = _truth_of_split(path) if gt_root is None else Path(gt_root)
    truth = split / image_id.split("_")[0] / f"{image_id}{suffix}"
    if not is_file(truth):
        raise FileNotFoundError(
            f"there is no {truth} for the image {path}; it comes with Cityscapes' "
            "gtFine_trainvaltest.zip. If it lies elsewhere, set gt_root, which is the variable "
            "val_gt of the configs"
        )
    return truth


def _truth_of_split(image: Path) -> Path:
    """Find ``gtFine/<split>`` from an image."""
    parts = list(image.parent.parts)
    outer = parts[:-1]
    if IMAGE_FOLDER in outer:
        last = len(outer) - 1 - outer[::-1].index(IMAGE_FOLDER)
        return Path(*parts[:last], TRUTH_FOLDER, parts[last + 1])
    for root in list(image.parents)[1:]:
        if (root / TRUTH_FOLDER).is_dir():
            return root / TRUTH_FOLDER / image.relative_to(root).parts[0]
    raise ValueError(
        f"no folder above {image} has {TRUTH_FOLDER} in it, so its ground truth cannot be found; "
        "set gt_root (the variable val_gt of the configs) to the folder that holds the cities' "
        "*_labelIds.png and *_instanceIds.png, such as data/cityscapes/gtFine/val"
    )


def cityscapes_ids(table: LabelTable) -> np.ndarray:
    """Tabulate Cityscapes' label ids by contiguous label.

    Classes are found by name, so annotations with train ids work as well.

    Args:
        table (LabelTable): Of the dataset, N classes.

    Returns:
        np.ndarray: uint8 ``(N,)``.

    Raises:
        ValueError: If a class is none of Cityscapes'.
    """
    ids = {label.name: label.id for label in CITYSCAPES_LABELS}
    unknown = [label.name for label in table if label.name not in ids]
    if unknown:
        raise ValueError(
            f"Cityscapes' metrics need Cityscapes' class names; unknown: {', '.join(unknown)}"
        )
    return np.array([ids[label.name] for label in table], np.uint8)


class InstancePrediction(NamedTuple):
    """One line of a prediction file.

    Attributes:
        mask (Path): PNG whose pixels other than zero are the instance.
        label (int): Label id.
        score (float): Confidence.
    """

    mask: Path
    label: int
    score: float


def read_instance_list(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> list[InstancePrediction]:
    """Read a prediction file: lines ``relative/mask.png label_id score``.

    Args:
        path: The text file.
        root: Folder that the masks lie below; that of the file by default.

    Returns:
        list[InstancePrediction]: In the order of the lines; empty lines are skipped.

    Raises:
        ValueError: If a line is wrong or leads out of the root; the message names file and line.
    """
    found = []
    folder = Path(os.path.abspath(root if root is not None else Path(path).parent))
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        fields = line.strip().rsplit(maxsplit=2)
        try:
            name, label, score = fields[0], int(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            raise ValueError(
                f"{path}, line {number}: expected 'relative/mask.png label_id score', such as "
                f"'masks/a_0.png 26 0.93', got {line!r}"
            ) from None
        mask = Path(path).parent / name
        if not Path(os.path.abspath(mask)).is_relative_to(folder):
            raise ValueError(f"{path}, line {number}: the mask {name!r} leads out of {folder}")
        if not mask.is_file():
            raise FileNotFoundError(f"{path}, line {number}: there is no mask {mask}")
        found.append(InstancePrediction(mask, label, score))
    return found


def write_semantic(folder: str | os.PathLike[str], image_id: str, ids: np.ndarray) -> Path:
    """Write a semantic prediction for the benchmark's server.

    Args:
        folder: Of the submission.
        image_id (str): ``<city>_<sequence>_<frame>``.
        ids (np.ndarray): uint8 label ids ``(H, W)``.

    Returns:
        Path: The file.
    """
    path = Path(folder) / f"{image_id}_pred_labelIds.png"
    write_label_png(path, ids)
    return path


def write_instances(
    folder: str | os.PathLike[str],
    image_id: str,
    masks: Iterable[np.ndarray],
    labels: Sequence[int],
    scores: Sequence[float],
) -> Path:
    """Write instance predictions for the benchmark's server: a text file and the masks.

    Args:
        folder: Of the submission.
        image_id (str): ``<city>_<sequence>_<frame>``.
        masks (Iterable[np.ndarray]): P masks, bool ``(H, W)``.
        labels (Sequence[int]): P label ids.
        scores (Sequence[float]): P scores.

    Returns:
        Path: The text file, which is written last.
    """
    lines = []
    for number, mask in enumerate(masks):
        name = f"masks/{image_id}_{number:03d}.png"
        write_label_png(Path(folder) / name, mask.astype(np.uint8) * 255)
        # repr keeps every bit, so that the files give the scores of the predictions in memory.
        lines.append(f"{name} {int(labels[number])} {float(scores[number])!r}\n")
    path = Path(folder) / f"{image_id}_pred.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return path


class _Pair(NamedTuple):
    labels: Path
    instances: Path
    prediction: Path


def _pairs(
    gt_root: str | os.PathLike[str], pred_root: str | os.PathLike[str], suffix: str
) -> list[_Pair]:
    truths = {p.name.removesuffix(LABELS_SUFFIX): p for p in list_files(gt_root, LABELS_SUFFIX)}
    found = match_predictions(list(truths), list_files(pred_root, suffix), suffix)
    return [
        _Pair(path, path.with_name(image_id + INSTANCES_SUFFIX), found[image_id])
        for image_id, path in truths.items()
    ]


def read_pixel_truth(labels: Path, instances: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read and check the ground truth of the pixel level.

    Args:
        labels: ``*_labelIds.png``.
        instances: ``*_instanceIds.png``.

    Returns:
        tuple[np.ndarray, np.ndarray]: Label ids and values of the instance map, both ``(H, W)``.

    Raises:
        FileNotFoundError: If a file is absent.
        ValueError: If a file is damaged, holds other values, or they differ in size.
    """
    label_map, instance_map = read_label_png(labels), read_label_png(instances)
    require_same_size(label_map, instance_map, labels, instances)
    check_label_ids(label_map, str(labels))
    return label_map, instance_map


def _count_pixel_files(pair: _Pair) -> PixelCounts:
    truth, instances = read_pixel_truth(pair.labels, pair.instances)
    prediction = read_label_png(pair.prediction)
    require_same_size(truth, prediction, pair.labels, pair.prediction)
    check_label_ids(prediction, str(pair.prediction))
    return count_pixels(truth, instances, prediction)


def evaluate_pixel_files(
    gt_root: str | os.PathLike[str],
    pred_root: str | os.PathLike[str],
    nproc: int = 1,
    label: str | None = None,
) -> tuple[PixelScores, PixelCounts]:
    """Evaluate a folder of semantic predictions.

    Args:
        gt_root: Folder below which ``*_gtFine_labelIds.png`` and ``*_instanceIds.png`` lie.
        pred_root: Folder below which one PNG of label ids per image lies, named ``<id>*.png``.
        nproc: Number of processes.
        label: Text of the progress bar; without it none is shown.

    Returns:
        tuple[PixelScores, PixelCounts]: Scores, and counts over all images.
    """
    parts = list(run(_count_pixel_files, _pairs(gt_root, pred_root, ".png"), nproc, label))
    total = sum_pixel_counts(parts)
    return pixel_scores(total), total


def _count_instance_files(pred_root: str | os.PathLike[str], pair: _Pair) -> InstanceCounts:
    instances = read_label_png(pair.instances)
    predictions = read_instance_list(pair.prediction, pred_root)

    def masks() -> Iterable[np.ndarray]:
        for prediction in predictions:
            mask = read_mask_png(prediction.mask)
            require_same_size(instances, mask, pair.instances, prediction.mask)
            yield mask

    labels = [prediction.label for prediction in predictions]
    try:
        return count_overlaps(instances, masks(), labels, [p.score for p in predictions])
    except ValueError as error:
        raise ValueError(f"{pair.prediction}: {error}") from error


def evaluate_instance_files(
    gt_root: str | os.PathLike[str],
    pred_root: str | os.PathLike[str],
    nproc: int = 1,
    label: str | None = None,
) -> InstanceScores:
    """Evaluate a folder of instance predictions.

    Args:
        gt_root: Folder below which ``*_gtFine_labelIds.png`` and ``*_instanceIds.png`` lie.
        pred_root: Folder below which one text file per image lies, named ``<id>*.txt``.
        nproc: Number of processes.
        label: Text of the progress bar; without it none is shown.

    Returns:
        InstanceScores: AP per class and threshold.
    """
    pairs = _pairs(gt_root, pred_root, ".txt")
    count = partial(_count_instance_files, pred_root)
    return instance_scores(list(run(count, pairs, nproc, label)))
