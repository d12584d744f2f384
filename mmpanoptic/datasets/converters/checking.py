"""Checks of a COCO-panoptic ground truth: every problem, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic.datasets.panoptic_json import (
    PanopticJson,
    load_json_object,
    read_categories,
)
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.files import is_inside
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.jobs import run
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .maps import describe_segments, read_image_size
from .panoptic_source import find_png_folder

WARNING_KINDS = ("png_id_not_in_json", "json_id_not_in_png", "wrong_box")
"""Kinds that a ground truth may have: evaluation and training still have a meaning."""

REPAIRABLE_KINDS = ("wrong_area", "wrong_box")
"""Kinds that :func:`repair` removes, besides a missing ``area``, ``bbox`` or ``iscrowd``."""


@dataclass
class ClassCount:
    """How often a class occurs.

    Attributes:
        images (int): Images with the class.
        segments (int): Segments.
        crowds (int): Those that are crowd.
        pixels (int): Of all segments.
    """

    images: int = 0
    segments: int = 0
    crowds: int = 0
    pixels: int = 0


@dataclass
class CheckReport:
    """Result of :func:`check_dataset`.

    Attributes:
        problems (list[FormatProblem]): In the order of the files.
        table (LabelTable | None): The classes; None if the JSON's categories are unusable.
        counts (dict[int, ClassCount]): By contiguous label.
        images (int): Annotated images.
        void (int): Pixels of id 0.
        pixels (int): All pixels.
        found (dict[int, list[dict]]): Segments that the PNG of an annotation (by its position)
            really has.
    """

    problems: list[FormatProblem]
    table: LabelTable | None = None
    counts: dict[int, ClassCount] = field(default_factory=dict)
    images: int = 0
    void: int = 0
    pixels: int = 0
    found: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def errors(self) -> list[FormatProblem]:
        """The problems that must be repaired."""
        return [problem for problem in self.problems if problem.kind not in WARNING_KINDS]

    @property
    def warnings(self) -> list[FormatProblem]:
        """The problems that one can live with."""
        return [problem for problem in self.problems if problem.kind in WARNING_KINDS]


@dataclass(frozen=True)
class _ImageReport:
    problems: list[FormatProblem]
    found: list[dict[str, Any]] | None = None
    pixels: int = 0


def check_dataset(
    path: Path,
    png_dir: Path | None = None,
    img_dir: Path | None = None,
    nproc: int = 1,
    label: str | None = None,
) -> CheckReport:
    """Check a panoptic JSON and all its PNGs.

    Args:
        path: The JSON.
        png_dir: Folder of the PNGs; default: the JSON's path without ``.json``.
        img_dir: Folder of the images, to check that they exist and have the right size.
        nproc: Number of processes.
        label: Text of the progress bar; without it none is shown.

    Returns:
        CheckReport: With all problems; nothing is raised for them.

    Raises:
        ValueError: If there is no PNG folder.
    """
    try:
        content = load_json_object(str(path))
        table = read_categories(content.get("categories"), str(path))
    except PanopticFormatError as error:
        return CheckReport(list(error.problems))
    folder = find_png_folder(path, png_dir)
    parsed = PanopticJson(content, str(path), table)
    records = parsed.parse()
    if not records:
        parsed.problems.append(
            FormatProblem("empty_annotation", "the file lists no annotations", str(path))
        )
    report = CheckReport(parsed.problems, table, {label.index: ClassCount() for label in table})
    raw = [content["annotations"][record["annotation_index"]] for record in records]
    check = partial(_check_image, folder, img_dir)
    for record, result in zip(
        records, run(check, list(zip(records, raw, strict=True)), nproc, label), strict=True
    ):
        report.problems += result.problems
        report.images += 1
        if result.found is not None:
            report.found[record["annotation_index"]] = result.found
            _count(report, record, result)
    return report


def _check_image(
    folder: Path, img_dir: Path | None, pair: tuple[dict[str, Any], Mapping[str, Any]]
) -> _ImageReport:
    record, annotation = pair
    if not all(_is_safe(record[key]) for key in ("img_file", "seg_file")):
        return _ImageReport([])  # the JSON's problems say so; such files are not opened
    problems = _check_photograph(img_dir, record) if img_dir else []
    path = folder / record["seg_file"]
    try:
        ids = read_panoptic_png(path)
    except PanopticFormatError as error:
        problems += [
            FormatProblem(p.kind, p.detail, p.file, record["img_id"]) for p in error.problems
        ]
        return _ImageReport(problems)
    size = (record["height"], record["width"])
    if ids.shape != size:
        detail = f"the PNG is {_size(ids.shape)}, the JSON says {_size(size)}"
        problems.append(FormatProblem("size_mismatch", detail, str(path), record["img_id"]))
    found = describe_segments(ids)
    problems += _compare(record, annotation, found, path)
    return _ImageReport(problems, found, ids.size)


def _is_safe(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and is_inside(name)


def _size(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]} pixels (width x height)"


def _check_photograph(img_dir: Path, record: dict[str, Any]) -> list[FormatProblem]:
    path, image_id = img_dir / record["img_file"], record["img_id"]
    try:
        size = read_image_size(path)
    except PanopticFormatError as error:
        return [FormatProblem(p.kind, p.detail, p.file, image_id) for p in error.problems]
    if size == (record["height"], record["width"]):
        return []
    detail = f"the image is {_size(size)}, the JSON says {record['width']} x {record['height']}"
    return [FormatProblem("size_mismatch", detail, str(path), image_id)]


def _compare(
    record: dict[str, Any],
    annotation: Mapping[str, Any],
    found: Iterable[Mapping[str, Any]],
    path: Path,
) -> list[FormatProblem]:
    """Compare the segments of the PNG with those of the JSON."""
    real = {segment["id"]: segment for segment in found}
    # Entries that are broken otherwise are listed all the same.
    entries = annotation["segments_info"] if isinstance(annotation["segments_info"], list) else []
    listed = [s.get("id") for s in entries if isinstance(s, Mapping)]
    problems = []

    def add(kind: str, detail: str, ids: Sequence[Any]) -> None:
        shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
        text = f"{detail} (segment ids {shown})"
        problems.append(FormatProblem(kind, text, str(path), record["img_id"], tuple(ids)))

    unlisted = [value for value in real if value not in listed]
    if unlisted:
        add("png_id_not_in_json", "the PNG has ids that the JSON does not list", unlisted)
    segments = record["segments_info"]
    empty = [segment["id"] for segment in segments if segment["id"] not in real]
    if empty:
        add("json_id_not_in_png", "listed segments have no pixels", empty)
    for segment in segments:
        truth = real.get(segment["id"])
        if truth is None:
            continue
        for kind, key in (("wrong_area", "area"), ("wrong_box", "bbox")):
            if key in segment and segment[key] != truth[key]:
                detail = f"{key} is {segment[key]}, the PNG has {truth[key]}"
                add(kind, detail, [segment["id"]])
    return problems


def _count(report: CheckReport, record: dict[str, Any], result: _ImageReport) -> None:
    area = {segment["id"]: segment["area"] for segment in result.found or ()}
    seen = set()
    for segment in record["segments_info"]:
        count = report.counts[segment["label"]]
        count.segments += 1
        count.crowds += segment["iscrowd"]
        count.pixels += area.get(segment["id"], 0)
        seen.add(segment["label"])
    for label in seen:
        report.counts[label].images += 1
    report.pixels += result.pixels
    report.void += result.pixels - sum(area.values())


def repair(content: dict[str, Any], report: CheckReport) -> Counter[str]:
    """Correct what has only one right value, in place.

    ``area`` and ``bbox`` are taken from the PNGs, a missing ``iscrowd`` becomes 0. Segments of
    PNGs that could not be read, and those without pixels, stay as they are.

    Args:
        content: Of the JSON.
        report: Of the same JSON.

    Returns:
        Counter[str]: Number of changes by field.
    """
    changes: Counter[str] = Counter()
    for position, found in report.found.items():
        real = {segment["id"]: segment for segment in found}
        for segment in content["annotations"][position]["segments_info"]:
            if not isinstance(segment, dict):
                continue
            if "iscrowd" not in segment:
                segment["iscrowd"] = 0
                changes["iscrowd"] += 1
            truth = real.get(segment.get("id"), {})
            for key in ("area", "bbox"):
                if key in truth and segment.get(key) != truth[key]:
                    segment[key] = truth[key]
                    changes[key] += 1
    return changes


def check_instances(path: Path) -> list[FormatProblem]:
    """Check ids and references of a COCO instance JSON.

    Args:
        path: The JSON.

    Returns:
        list[FormatProblem]: All problems. Id 0 is one: pycocotools' matching takes it for
        "unmatched".
    """
    try:
        content = load_json_object(str(path))
    except PanopticFormatError as error:
        return list(error.problems)
    problems = [
        FormatProblem("missing_field", f"the file has no list {name!r}", str(path))
        for name in ("images", "annotations", "categories")
        if not isinstance(content.get(name), list)
    ]
    if problems:
        return problems
    images = {image.get("id") for image in content["images"]}
    categories = {category.get("id") for category in content["categories"]}
    seen: set[Any] = set()
    for position, annotation in enumerate(content["annotations"]):
        what, number = f"annotations[{position}]", annotation.get("id")
        image_id = annotation.get("image_id")
        found = []
        if not isinstance(number, int) or number < 1:
            found.append(("bad_id", f"{what}.id is {number!r}; it must be 1 or more"))
        elif number in seen:
            found.append(("bad_id", f"{what}.id {number} is used twice"))
        seen.add(number)
        if image_id not in images:
            found.append(("missing_image", f"{what}.image_id {image_id!r} is unknown"))
        if annotation.get("category_id") not in categories:
            unknown = annotation.get("category_id")
            found.append(("unknown_category", f"{what}.category_id {unknown!r} is unknown"))
        problems += [FormatProblem(kind, text, str(path), image_id) for kind, text in found]
    return problems
