"""KITTI panoptic, the annotation of the EfficientPS authors, to COCO panoptic.

Assumed after their public converter; no file of the set was seen::

    ROOT/{training,validation}/images/NAME.png
    ROOT/{training,validation}/annotations/NAME.png    RGB, id = R + 256 G + 65536 B

An id below 1000 is a class of Cityscapes (a group, if it is a thing), another one is
``class * 1000 + number``. The 19 evaluated classes of Cityscapes are kept, others are void.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS, INSTANCE_FACTOR
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .cityscapes import panoptic_categories, panoptic_segments
from .incremental import Job, PanopticFormat, Record, Summary, convert_to_json
from .painting import raise_listed, write_record
from .resized_pairs import Size, check_same_size, resize_ids, write_resized_image

SPLITS: Mapping[str, str] = {"train": "training", "val": "validation"}
"""Folder of each split."""
_IDS = {label.id for label in CITYSCAPES_LABELS}


def convert_kitti(
    root: Path, split: str, out: Path, size: Size | None = None, nproc: int = 1
) -> Summary:
    """Write ``panoptic_<split>.json`` and its PNGs, and with ``size`` the images, too.

    Segment ids are the published ones. Differences from the original (EfficientPS'
    ``convert_kitti.py``): both splits keep their size unless ``size`` is given, and then image and
    annotation change alike; the original resizes the annotation of both splits and the images of
    one.

    Args:
        root: Folder of the dataset.
        split: ``train`` or ``val``.
        out: Receives ``annotations/`` and, with ``size``, ``<split>/``.
        size: Height and width of image and annotation; None keeps them.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: If an image is missing, sizes differ, or an id names no class.
        ValueError: If the split has no annotation.
    """
    folder = root / SPLITS[split]
    annotations = sorted((folder / "annotations").glob("*.png"))
    if not annotations:
        raise ValueError(
            f"{folder / 'annotations'} holds no *.png; unpack the annotation of the EfficientPS "
            "authors there"
        )
    images = [folder / "images" / path.name for path in annotations]
    missing = [image for image in images if not image.is_file()]
    raise_listed("missing_file", "the annotation has no image of this name", missing)
    target = out / "annotations" / f"panoptic_{split}"
    jobs = []
    for annotation, image in zip(annotations, images, strict=True):
        copies = (out / split / image.name,) if size else ()
        outputs = (target / annotation.name, *copies)
        jobs.append(Job(annotation.name, (annotation, image), outputs, size))
    info = {"description": "KITTI panoptic", "converter": "mmpanoptic", "version": 1, "size": size}
    form = PanopticFormat(panoptic_categories())
    name = f"panoptic_{split}"
    return convert_to_json(_convert, jobs, target.with_suffix(".json"), form, info, nproc, name)


def _convert(job: Job) -> Record:
    annotation, image = job.sources
    ids = read_panoptic_png(annotation)
    size: Size | None = job.data
    if size:
        ids = resize_ids(ids, size)
        write_resized_image(image, job.outputs[1], size)
    else:
        check_same_size(image, ids, annotation)
    kept, segments = keep_evaluated(ids, annotation)
    height, width = ids.shape
    entry = {
        "id": annotation.stem,
        "file_name": image.name,
        "height": height,
        "width": width,
    }
    return write_record(job, entry, kept, segments)


def keep_evaluated(ids: np.ndarray, path: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Describe the segments of evaluated classes and make all others void.

    Args:
        ids (np.ndarray): int32 ``(H, W)``.
        path: Of the annotation, for messages.

    Returns:
        tuple[np.ndarray, list[dict]]: int32 ids ``(H, W)`` and ``segments_info``.

    Raises:
        PanopticFormatError: If an id names no class of Cityscapes.
    """
    found = np.unique(ids)
    classes = np.where(found < INSTANCE_FACTOR, found, found // INSTANCE_FACTOR)
    unknown = found[~np.isin(classes, list(_IDS))]
    if len(unknown):
        detail = (
            f"the ids {', '.join(map(str, unknown[:5].tolist()))} name no class of Cityscapes "
            "(class, or class * 1000 + number)"
        )
        raise format_error("unknown_category", detail, path)
    segments = panoptic_segments(ids)
    return np.where(np.isin(ids, [s["id"] for s in segments]), ids, 0), segments
