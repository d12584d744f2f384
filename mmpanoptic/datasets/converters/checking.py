"""Checks of a COCO-panoptic ground truth: every problem, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic.datasets.map_problems import find_size_problem, show_ids, unlisted_problem
from mmpanoptic.datasets.panoptic_json import (
    PanopticJson,
    find_empty,
    read_categories,
)
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import (
    InstanceJson,
    is_box,
    is_number,
    key_of,
    load_json_object,
    place_of,
)
from mmpanoptic.utils.files import is_file_name, is_inside
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.jobs import run
from mmpanoptic.utils.panoptic_png import read_panoptic_png
from mmpanoptic.utils.segmentations import encode

from .maps import describe_segments
from .panoptic_source import find_png_folder

WARNING_KINDS = (
    "json_id_not_in_png",
    "wrong_box",
    "large_area",
    "unannotated_image",
    "zero_annotation",
)
"""Kinds that a ground truth may have: training, testing and evaluation take them, with a warning
or without. They refuse all others, each what concerns it."""

REPAIRABLE_KINDS = ("wrong_area", "large_area", "wrong_box")
"""Kinds that :func:`repair` removes, besides a missing ``area``, ``bbox`` or ``iscrowd``."""


@dataclass
class ClassCount:
    """How often a class occurs.

    Attributes:
        images (int): Images with the class.
        segments (int): Segments.
        crowds (int): Those that are crowd.
        pixels (int): Of all segments.
        sizes (list[int]): Pixels of each instance (things that are no crowd).
    """

    images: int = 0
    segments: int = 0
    crowds: int = 0
    pixels: int = 0
    sizes: list[int] = field(default_factory=list)


@dataclass
class CheckReport:
    """Result of :func:`check_dataset`.

    Attributes:
        problems (list[FormatProblem]): In the order of the files.
        table (LabelTable | None): The classes; None if the JSON's categories are unusable.
        counts (dict[int, ClassCount]): By contiguous label.
        records (list[dict]): Annotated images, see :meth:`PanopticJson.records`.
        void (int): Pixels of id 0.
        pixels (int): All pixels.
        found (dict[int, list[dict]]): Segments that the PNG of an annotation (by its position)
            really has.
        unannotated (int): Listed images without annotation.
        without_things (int): Annotated images without a thing segment.
        without_stuff (int): Annotated images without a stuff segment.
        void_shares (dict[int, float]): Share of id 0 in an annotation (by its position).
    """

    problems: list[FormatProblem]
    table: LabelTable | None = None
    counts: dict[int, ClassCount] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    void: int = 0
    pixels: int = 0
    found: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    unannotated: int = 0
    without_things: int = 0
    without_stuff: int = 0
    void_shares: dict[int, float] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of annotated images."""
        return len(self.records)

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
    """Check a panoptic JSON, all its PNGs and images, as training and evaluation read them.

    Args:
        path: The JSON.
        png_dir: Folder of the PNGs; default: the JSON's path without ``.json``.
        img_dir: Folder of the images; without it they are not looked at.
        nproc: Number of processes.
        label: Text of the progress bar; without it none is shown.

    Returns:
        CheckReport: With all problems; nothing is raised for them.

    Raises:
        ValueError: If there is no PNG folder.
    """
    try:
        content = load_json_object(path)
    except PanopticFormatError as error:
        return CheckReport(list(error.problems))
    problems: list[FormatProblem] = []
    try:
        table = read_categories(content.get("categories"), str(path))
    except PanopticFormatError as error:
        problems += error.problems
        try:  # the rest can be checked all the same
            table = read_categories(content.get("categories"), str(path), drop_colors=True)
        except PanopticFormatError:
            return CheckReport(problems)
    folder = find_png_folder(path, png_dir)
    parsed = PanopticJson(content, path, table)
    records = parsed.parse()
    problems += [*parsed.problems, *find_empty(records, str(path))]
    problems += [
        FormatProblem("unannotated_image", "the image has no annotation", str(path), image["id"])
        for image in parsed.unannotated
    ]
    report = CheckReport(problems, table, {label.index: ClassCount() for label in table})
    report.unannotated, report.records = len(parsed.unannotated), records
    raw = [content["annotations"][record["annotation_index"]] for record in records]
    pairs, check = list(zip(records, raw, strict=True)), partial(_check_image, folder, img_dir)
    for record, result in zip(records, run(check, pairs, nproc, label), strict=True):
        report.problems += result.problems
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
        problems += [replace(problem, image_id=record["img_id"]) for problem in error.problems]
        return _ImageReport(problems)
    wrong = find_size_problem(ids.shape, record, path)
    problems += [] if wrong is None else [wrong]
    found = describe_segments(ids)
    problems += _compare(record, annotation, found, path)
    return _ImageReport(problems, found, ids.size)


def _is_safe(name: Any) -> bool:
    return is_file_name(name) and is_inside(name)


def _check_photograph(img_dir: Path, record: dict[str, Any]) -> list[FormatProblem]:
    """Load an image as training does."""
    from mmpanoptic.datasets.transforms import LoadImage

    sample = {key: record[key] for key in ("img_id", "height", "width")}
    try:
        LoadImage().transform({**sample, "img_path": str(img_dir / record["img_file"])})
    except PanopticFormatError as error:
        return list(error.problems)
    return []


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
        text = f"{detail} {show_ids(ids)}"
        problems.append(FormatProblem(kind, text, str(path), record["img_id"], tuple(ids)))

    unlisted = [value for value in real if value not in listed]
    if unlisted:
        problems.append(unlisted_problem(unlisted, path, record["img_id"]))
    segments = record["segments_info"]
    empty = [segment["id"] for segment in segments if segment["id"] not in real]
    if empty:
        add("json_id_not_in_png", "listed segments have no pixels", empty)
    for segment in segments:
        truth = real.get(segment["id"])
        if truth is None:
            continue
        area = segment.get("area")
        if area is not None and area != truth["area"]:
            kind = "wrong_area" if area < truth["area"] else "large_area"
            add(kind, f"area is {area}, the PNG has {truth['area']}", [segment["id"]])
        if "bbox" in segment and list(segment["bbox"]) != truth["bbox"]:
            detail = f"bbox is {segment['bbox']}, the PNG has {truth['bbox']}"
            add("wrong_box", detail, [segment["id"]])
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
        if segment["isthing"] and not segment["iscrowd"] and segment["id"] in area:
            count.sizes.append(area[segment["id"]])
    for label in seen:
        report.counts[label].images += 1
    report.pixels += result.pixels
    void = result.pixels - sum(area.values())
    report.void += void
    kinds = {segment["isthing"] for segment in record["segments_info"]}
    report.without_things += True not in kinds
    report.without_stuff += False not in kinds
    report.void_shares[record["annotation_index"]] = void / max(result.pixels, 1)


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
            if not isinstance(segment, dict) or type(segment.get("id")) is not int:
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


def check_instances(path: Path) -> tuple[list[FormatProblem], dict[str, list[int]]]:
    """Check a COCO instance JSON as training (``instances_file``) and mask AP read it.

    Args:
        path: The JSON.

    Returns:
        tuple: All problems, and the areas of the instances by class. Annotation id 0 is a
        warning: pycocotools' matching takes it for "unmatched".
    """
    try:
        content = load_json_object(path)
    except PanopticFormatError as error:
        return list(error.problems), {}
    reader = InstanceJson(content, path)
    sizes: dict[str, list[int]] = {name: [] for name in reader.names.values()}
    for annotation in reader.parse():
        place = place_of("annotations", annotation["position"], annotation)
        if annotation["id"] == 0:
            detail = f"{place}: other programs take the id 0 for not found"
            reader.add("zero_annotation", detail, annotation["image_id"])
        for key, allowed in (("bbox", is_box), ("area", is_number)):
            if not allowed(annotation.get(key)):
                found = repr(annotation[key]) if key in annotation else "nothing"
                detail = f"{place}.{key} must be numbers, as AP needs them, got {found}"
                reader.add("bad_field", detail, annotation["image_id"])
        name = reader.names[key_of(annotation["category_id"])]
        sizes.setdefault(name, []).append(_mask_area(reader, annotation))
    if reader.content.get("annotations") == []:
        reader.add("empty_annotation", "the file lists no annotations")
    return reader.problems, sizes


def _mask_area(reader: InstanceJson, annotation: Mapping[str, Any]) -> int:
    from pycocotools import mask as coco_mask

    image = reader.image_index[key_of(annotation["image_id"])]
    code = encode(annotation["segmentation"], image["height"], image["width"])
    return int(coco_mask.area(code))
