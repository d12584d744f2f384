"""COCO instances, stuff and detections to COCO panoptic; two-channel PNGs to COCO panoptic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.datasets.panoptic_json import read_categories
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import (
    CocoFile,
    ImageKey,
    InstanceJson,
    check_annotations,
    key_of,
    load_json,
    load_json_object,
    place_of,
)
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error

from .balance import image_balance
from .incremental import Job, PanopticFormat, Record, Summary, convert_to_json
from .label_items import CocoMask, LabelItem, draw_items
from .maps import describe_segments, read_two_channels
from .painting import paint_shapes, png_name, raise_listed, write_record

_INSTANCE_FACTOR = 1000

Images = dict[ImageKey, Mapping[str, Any]]


class MaskSet(NamedTuple):
    """Masks of images, from one or several files.

    Attributes:
        images (dict): Entries of ``images`` by type and value of the id.
        categories (list[dict]): With ``isthing``.
        annotations (list[tuple[str, dict]]): File and checked annotation.
        problems (list[FormatProblem]): Nothing is converted if there are any.
        sources (list[Path]): All files.
    """

    images: Images
    categories: list[dict[str, Any]]
    annotations: list[tuple[str, dict[str, Any]]]
    problems: list[FormatProblem]
    sources: list[Path]


def read_image_list(path: Path) -> tuple[Images, CocoFile]:
    """Read ``images`` of a COCO JSON, each with id, file_name, height and width.

    Returns:
        tuple: Usable entries, and the reader, which has the problems of the others.

    Raises:
        PanopticFormatError: If the file cannot be read.
    """
    reader = CocoFile(load_json_object(path), path)
    return reader.images(), reader


def read_category_file(path: Path) -> list[dict[str, Any]]:
    """Read categories (with ``isthing``) from a list or from a JSON with ``categories``.

    Raises:
        PanopticFormatError: If there are none or an entry is wrong.
    """
    content = load_json(path)
    categories: Any = content.get("categories") if isinstance(content, dict) else content
    read_categories(categories, str(path))
    return categories


def read_mask_set(paths: Sequence[Path], images: Path, categories: Path) -> MaskSet:
    """Read COCO annotation files and result files (bare lists) one after the other.

    Args:
        paths: The files; annotations have ``image_id``, ``category_id``, ``segmentation`` and,
            optionally, ``iscrowd`` and ``score``.
        images: JSON with ``images``.
        categories: JSON with categories.

    Returns:
        MaskSet: Masks are checked already.

    Raises:
        PanopticFormatError: If a file cannot be read.
    """
    table = read_category_file(categories)
    index, listed = read_image_list(images)
    problems = list(listed.problems)
    annotations: list[tuple[str, dict[str, Any]]] = []
    for path in paths:
        content = load_json(path, packed=True)
        entries = content.get("annotations") if isinstance(content, dict) else content
        if not isinstance(entries, list):
            raise format_error("missing_field", "the file has no list 'annotations'", path)
        reader = InstanceJson({}, path, foreign=True)
        reader.image_index, reader.broken_images = index, listed.broken_images
        reader.names = {key_of(category["id"]): category["name"] for category in table}
        for entry in check_annotations(reader, entries):
            _check_score(reader, entry)
            annotations.append((str(path), entry))
        problems += reader.problems
    sources = list(dict.fromkeys([*paths, images, categories]))
    return MaskSet(index, table, annotations, problems, sources)


def _check_score(reader: InstanceJson, entry: Mapping[str, Any]) -> None:
    score = entry.get("score", 0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        place = place_of("annotations", entry["position"], entry)
        detail = f"{place}.score must be a number, got {score!r}"
        reader.add("bad_field", detail, entry["image_id"])


def convert_masks(
    masks: MaskSet,
    out: Path,
    overlap: str = "smaller-on-top",
    background: str | None = None,
    nproc: int = 1,
) -> Summary:
    """Write a panoptic set from masks.

    Args:
        masks: The set.
        out: The JSON; PNGs go into the folder of its name.
        overlap: See :func:`paint_shapes`.
        background: Name of the stuff class of pixels without a mask.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: With the problems of all files; or if masks overlap and the rule is
            ``error``.
    """
    if masks.problems:
        raise PanopticFormatError(masks.problems)
    table = LabelTable.from_categories(masks.categories)
    by_image: dict[ImageKey, list[LabelItem]] = {key: [] for key in masks.images}
    for file, entry in masks.annotations:
        by_image[key_of(entry["image_id"])].append(_item(file, entry, table))
    jobs = []
    for key, image in masks.images.items():
        name = png_name(image["file_name"], masks.sources[-1])
        outputs = (out.with_suffix("") / name,)
        jobs.append(Job(name, tuple(masks.sources), outputs, (dict(image), by_image[key])))
    label = None if background is None else background_label(table, background)
    info = {
        "description": f"panoptic map of {', '.join(path.name for path in masks.sources)}",
        "overlap": overlap,
        "background": background,
        "categories": masks.categories,
    }
    function = partial(_paint, table, overlap, label)
    return convert_to_json(function, jobs, out, PanopticFormat(masks.categories), info, nproc)


def _item(file: str, entry: Mapping[str, Any], table: LabelTable) -> LabelItem:
    place = place_of("annotations", entry["position"], entry)
    return LabelItem(
        table.by_dataset_id(entry["category_id"]).index,
        (CocoMask(entry["segmentation"]),),
        f"id {entry['id']}" if "id" in entry else f"number {entry['position']}",
        f"{place}.segmentation",
        file,
        entry["image_id"],
        entry["iscrowd"],
        float(entry.get("score", 0)),
    )


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


def _paint(table: LabelTable, overlap: str, background: int | None, job: Job) -> Record:
    image, items = job.data
    size = (image["height"], image["width"])
    shapes, problems = draw_items(items, size)
    if problems:
        raise PanopticFormatError(problems)
    try:
        painting = paint_shapes(shapes, size, table, overlap, background)
    except ValueError as error:
        kind, detail = "overlapping_masks", str(error)
        raise format_error(kind, detail, job.sources[0], image["id"]) from error
    groups = ("things" if table[shape.label].isthing else "stuff" for shape in shapes)
    names = (shape.name for shape in shapes)
    fates = zip(groups, painting.fates, names, strict=True)
    balance = image_balance(fates, image["file_name"])
    return write_record(job, image, painting.ids, painting.segments, balance=balance)


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
    images, reader = read_image_list(images_json)
    reader.raise_problems()
    jobs = []
    for image in images.values():
        name = png_name(image["file_name"], images_json)
        jobs.append(Job(name, (folder / name,), (out.with_suffix("") / name,), dict(image)))
    missing = [job.sources[0] for job in jobs if not job.sources[0].exists()]
    raise_listed("missing_file", "there is no such PNG", missing)
    info: dict[str, Any] = {"description": f"panoptic maps of {folder.name}", "void": void}
    info["categories"] = list(categories)
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
