"""COCO instances, stuff and detections to COCO panoptic; two-channel PNGs to COCO panoptic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.datasets.panoptic_json import load_json_object, read_categories
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import read_json
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error

from .incremental import Job, PanopticFormat, Record, Summary, convert_to_json
from .maps import decode_mask, describe_segments, read_two_channels
from .painting import Shape, paint_shapes, png_name, raise_listed, write_record

_INSTANCE_FACTOR = 1000


def read_annotation_files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read COCO annotation files and result files (bare lists) one after the other.

    Args:
        paths: The files.

    Returns:
        list[dict]: All annotations, each with ``image_id``, ``category_id`` and ``segmentation``.

    Raises:
        PanopticFormatError: If a file has no annotations, or one lacks a field.
    """
    annotations, problems = [], []
    for path in paths:
        content = read_json(path)
        entries = content if isinstance(content, list) else content.get("annotations")
        if not isinstance(entries, list):
            raise format_error("missing_field", "the file has no list 'annotations'", path)
        for position, entry in enumerate(entries):
            fields = ("image_id", "category_id", "segmentation")
            lacking = [name for name in fields if name not in entry]
            if lacking:
                detail = f"annotations[{position}] lacks {', '.join(lacking)}"
                problems.append(FormatProblem("missing_field", detail, str(path)))
        annotations += entries
    if problems:
        raise PanopticFormatError(problems)
    return annotations


def read_category_file(path: Path) -> list[dict[str, Any]]:
    """Read categories (with ``isthing``) from a list or from a JSON with ``categories``.

    Raises:
        PanopticFormatError: If there are none or an entry is wrong.
    """
    content = read_json(path)
    categories: Any = content.get("categories") if isinstance(content, dict) else content
    read_categories(categories, str(path))
    return categories


def convert_masks(
    annotations: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    sources: Sequence[Path],
    out: Path,
    overlap: str = "error",
    background: str | None = None,
    nproc: int = 1,
) -> Summary:
    """Write a panoptic set from masks.

    Args:
        annotations: With ``image_id``, ``category_id``, ``segmentation`` and, optionally,
            ``iscrowd`` and ``score``.
        images: Entries of a COCO JSON.
        categories: With ``isthing``.
        sources: Files that all of this was read from.
        out: The JSON; PNGs go into the folder of its name.
        overlap: See :func:`paint_shapes`.
        background: Name of the stuff class of pixels without a mask.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: For unknown images or categories and broken masks.
        ValueError: If masks overlap and the rule is ``error``.
    """
    table = LabelTable.from_categories(categories)
    _check_references(annotations, images, table, sources)
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    jobs = []
    for image in images:
        name = png_name(image["file_name"], sources[0])
        data = (image, by_image.get(image["id"], []))
        jobs.append(Job(name, tuple(sources), (out.with_suffix("") / name,), data))
    label = None if background is None else background_label(table, background)
    info = {
        "description": f"panoptic map of {', '.join(path.name for path in sources)}",
        "overlap": overlap,
        "background": background,
    }
    function = partial(_paint, table, overlap, label)
    return convert_to_json(function, jobs, out, PanopticFormat(categories), info, nproc)


def background_label(table: LabelTable, name: str) -> int:
    """Look the background class up.

    Raises:
        ValueError: If there is no such class, or it is a thing.
    """
    try:
        label = table.by_name(name)
    except KeyError as error:
        raise ValueError(f"--background: {error.args[0]}") from error
    if label.isthing:
        raise ValueError(f"--background must be a stuff class; {name} is a thing")
    return label.index


def _check_references(
    annotations: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    table: LabelTable,
    sources: Sequence[Path],
) -> None:
    known, problems, file = {image["id"] for image in images}, [], str(sources[0])
    for position, annotation in enumerate(annotations):
        image_id, category = annotation["image_id"], annotation["category_id"]
        if image_id not in known:
            detail = f"annotation {position} belongs to an unknown image"
            problems.append(FormatProblem("missing_image", detail, file, image_id))
        if not table.has_dataset_id(category):
            detail = f"annotation {position} has the category_id {category!r}"
            problems.append(FormatProblem("unknown_category", detail, file, image_id))
    if problems:
        raise PanopticFormatError(problems)


def make_shape(
    annotation: Mapping[str, Any], label: int, size: tuple[int, int], name: str
) -> Shape:
    """Make a shape to paint from a COCO annotation."""
    return Shape(
        partial(decode_mask, annotation["segmentation"], *size),
        label,
        int(annotation.get("iscrowd", 0)),
        float(annotation.get("score", 0)),
        name,
    )


def _paint(table: LabelTable, overlap: str, background: int | None, job: Job) -> Record:
    image, annotations = job.data
    size = (image["height"], image["width"])
    shapes = [
        make_shape(a, table.by_dataset_id(a["category_id"]).index, size, f"id {a.get('id', k)}")
        for k, a in enumerate(annotations)
    ]
    try:
        ids, segments = paint_shapes(shapes, size, table, overlap, background)
    except ValueError as error:
        raise format_error("bad_field", str(error), job.sources[0], image["id"]) from error
    return write_record(job, image, ids, segments)


def convert_two_channel(
    folder: Path,
    images_json: Path,
    categories: Sequence[Mapping[str, Any]],
    out: Path,
    void: int = 0,
    nproc: int = 1,
) -> Summary:
    """Write a panoptic set from PNGs with R = category id and G = instance number.

    Segments are the values ``1000 R + G``; their ids are 1, 2, ... in ascending order of those.

    Args:
        folder: Of the two-channel PNGs, named as the images.
        images_json: COCO JSON with ``images``.
        categories: With ``isthing``.
        out: The JSON; PNGs go into the folder of its name.
        void: Category that stands for void.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: Listing missing PNGs, or naming one of another kind or size.
    """
    images = load_json_object(str(images_json)).get("images")
    if not isinstance(images, list):
        raise format_error("missing_field", "the file has no list 'images'", images_json)
    jobs = []
    for image in images:
        name = png_name(image["file_name"], images_json)
        jobs.append(Job(name, (folder / name,), (out.with_suffix("") / name,), image))
    missing = [job.sources[0] for job in jobs if not job.sources[0].exists()]
    raise_listed("missing_file", "there is no such PNG", missing)
    info = {"description": f"panoptic maps of {folder.name}", "void": void}
    function = partial(_read_two_channels, LabelTable.from_categories(categories), void)
    return convert_to_json(function, jobs, out, PanopticFormat(categories), info, nproc)


def _read_two_channels(table: LabelTable, void: int, job: Job) -> Record:
    image, path = job.data, job.sources[0]
    pair = read_two_channels(path).astype(np.int32)
    size = (image["height"], image["width"])
    if pair.shape[:2] != size:
        detail = f"the PNG has {pair.shape[:2]} (height, width), the JSON says {size}"
        raise format_error("size_mismatch", detail, path, image["id"])
    category, number = pair[..., 0], pair[..., 1]
    unknown = [c for c in np.unique(category).tolist() if c != void and not table.has_dataset_id(c)]
    if unknown:
        detail = f"the PNG has the categories {unknown}"
        raise format_error("unknown_category", detail, path, image["id"])
    # One more than the value, so that category 0 with instance 0 is not taken for void.
    value = np.where(category == void, 0, category * _INSTANCE_FACTOR + number + 1)
    keys = np.unique(value[value > 0])
    ids = np.where(value > 0, np.searchsorted(keys, value) + 1, 0).astype(np.int32)
    segments = [
        {
            "id": segment["id"],
            "category_id": (key - 1) // _INSTANCE_FACTOR,
            "iscrowd": 0,
            "area": segment["area"],
            "bbox": segment["bbox"],
        }
        for key, segment in zip(keys.tolist(), describe_segments(ids), strict=True)
    ]
    return write_record(job, image, ids, segments)
