"""Reading and checking of COCO-panoptic JSON files (ground truth)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmpanoptic.structures import MAX_ID, LabelTable
from mmpanoptic.structures.label_table import find_category_problem
from mmpanoptic.utils.coco_file import (
    CocoFile,
    ImageKey,
    describe_unknown,
    is_box,
    is_number,
    key_of,
    place_of,
)
from mmpanoptic.utils.format_errors import (
    FormatProblem,
    PanopticFormatError,
    describe_problems,
)


class PanopticJson(CocoFile):
    """The content of a ground-truth JSON as one record per annotated image.

    All problems are collected; :meth:`records` raises one error that lists them.

    Args:
        content (Mapping): The parsed file.
        file (str): Its path, for messages.
        table (LabelTable): The classes of the dataset.
        fill_missing (bool): Accept segments without ``iscrowd`` (0 is assumed) and ``area``
            (left out of the record).

    Attributes:
        unannotated (list[Mapping]): Entries of ``images`` that no annotation names; filled by
            :meth:`parse`.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        file: str | os.PathLike[str],
        table: LabelTable,
        fill_missing: bool = False,
    ) -> None:
        super().__init__(content, file)
        self.table = table
        self.fill_missing = fill_missing
        self.unannotated: list[Mapping[str, Any]] = []

    def records(self) -> list[dict[str, Any]]:
        """List the annotated images in the order of ``annotations``.

        Returns:
            list[dict]: Each with ``img_id``, ``img_file`` and ``seg_file`` (as written in the
            JSON), ``height``, ``width``, ``annotation_index`` (position in ``annotations``) and
            ``segments_info`` (with ``label``, ``isthing`` and int ``iscrowd``).

        Raises:
            PanopticFormatError: Listing all problems of the file.
        """
        records = self.parse()
        self.raise_problems()
        return records

    def test_records(self) -> list[dict[str, Any]]:
        """List the images of a file without ``annotations``, as published for test sets.

        Returns:
            list[dict]: As :meth:`records`, with no segments and ``seg_file`` None; in the order of
            ``images``.

        Raises:
            PanopticFormatError: Listing all problems of the file.
        """
        records = [
            {
                "img_id": image["id"],
                "img_file": _with_slashes(image["file_name"]),
                "seg_file": None,
                "height": image["height"],
                "width": image["width"],
                "annotation_index": position,
                "segments_info": [],
            }
            for position, image in enumerate(self.images().values())
        ]
        self.raise_problems()
        return records

    def parse(self) -> list[dict[str, Any]]:
        """List what can be read, as :meth:`records` does, and collect the problems."""
        images = self.images()
        records = list(self._annotations(images))
        if self.content.get("annotations") == []:
            self.add("empty_annotation", "the file lists no annotations")
        used = {key_of(record["img_id"]) for record in records}
        self.unannotated = [image for key, image in images.items() if key not in used]
        return records

    def _annotations(self, images: Mapping[ImageKey, Mapping[str, Any]]) -> Iterator[dict]:
        seen = set()
        for position, annotation in enumerate(self.entries("annotations")):
            place = f"annotations[{position}]"
            image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
            fields = ("image_id", "file_name", "segments_info")
            if not self.has_fields(annotation, fields, place, image_id):
                continue
            key = key_of(image_id)
            if key not in images:
                if key not in self.broken_images:
                    detail = describe_unknown(image_id, images, f"{place}.image_id", "images")
                    self.add("missing_image", detail, image_id)
                continue
            if key in seen:
                self.add("duplicate_image", f"{place} annotates the image again", image_id)
            seen.add(key)
            self.check_name(annotation["file_name"], f"{place}.file_name", image_id)
            yield {
                "img_id": image_id,
                "img_file": _with_slashes(images[key]["file_name"]),
                "seg_file": _with_slashes(annotation["file_name"]),
                "height": images[key]["height"],
                "width": images[key]["width"],
                "annotation_index": position,
                "segments_info": self._segments(annotation["segments_info"], place, image_id),
            }

    def _segments(self, segments: Any, what: str, image_id: Any) -> list[dict[str, Any]]:
        if not isinstance(segments, list):
            found = type(segments).__name__
            self.add("bad_field", f"{what}.segments_info must be a list, got {found}", image_id)
            return []
        required = (
            ("id", "category_id") if self.fill_missing else ("id", "category_id", "iscrowd", "area")
        )
        parsed, seen = [], set()
        for position, segment in enumerate(segments):
            place = place_of(f"{what}.segments_info", position, segment)
            if not self.has_fields(segment, required, place, image_id):
                continue
            if not self._check_segment(segment, place, image_id):
                continue
            segment_id = segment["id"]
            if segment_id in seen:
                self.add("duplicate_segment_id", f"{place} repeats an id", image_id, [segment_id])
            seen.add(segment_id)
            parsed.append(self._segment(segment))
        return parsed

    def _check_segment(self, segment: Mapping[str, Any], place: str, image_id: Any) -> bool:
        """Check the values of one segment; True if they can be used."""
        segment_id, category = segment["id"], segment["category_id"]
        before = len(self.problems)
        if type(segment_id) is not int or not 0 <= segment_id <= MAX_ID:
            detail = f"{place}.id must be a whole number from 1 to {MAX_ID}, got {segment_id!r}"
            self.add("bad_id", detail, image_id, [segment_id])
        elif segment_id == 0:
            self.add("zero_id", f"{place}.id is 0", image_id, [0])
        if not self.table.has_dataset_id(category):
            known = {key_of(label.dataset_id): None for label in self.table}
            detail = describe_unknown(category, known, f"{place}.category_id", "categories")
            self.add("unknown_category", detail, image_id, [segment_id])
        for field, (test, allowed) in _SEGMENT_FIELDS.items():
            if field in segment and not test(segment[field]):
                detail = f"{place}.{field} must be {allowed}, got {segment[field]!r}"
                self.add("bad_field", detail, image_id, [segment_id])
        return len(self.problems) == before

    def _segment(self, segment: Mapping[str, Any]) -> dict[str, Any]:
        label = self.table.by_dataset_id(segment["category_id"])
        parsed = {
            "id": segment["id"],
            "category_id": label.dataset_id,
            "label": label.index,
            "isthing": label.isthing,
            "iscrowd": int(segment.get("iscrowd", 0)),
        }
        for field in ("area", "bbox"):
            if segment.get(field) is not None:
                parsed[field] = segment[field]
        return parsed


def _with_slashes(name: Any) -> Any:
    """Write a file name of Windows as other systems do."""
    return name.replace("\\", "/") if isinstance(name, str) else name


_SEGMENT_FIELDS = {
    "iscrowd": (lambda value: value in (0, 1), "0 or 1"),
    "area": (lambda value: is_number(value) and value >= 0, "a number of pixels"),
    # A null box is absent: it is read off the PNG where one is needed.
    "bbox": (lambda value: value is None or is_box(value), "[x, y, width, height], four numbers"),
}
"""Fields of a segment that may be absent: what they may hold, and in words."""


def find_empty(records: Sequence[Mapping[str, Any]], file: str) -> list[FormatProblem]:
    """Find images without segments, which training refuses.

    Args:
        records (Sequence[Mapping]): From :meth:`PanopticJson.records`.
        file (str): The JSON's path.
    """
    detail = "the image has no segments"
    return [
        FormatProblem("empty_annotation", detail, file, record["img_id"])
        for record in records
        if not record["segments_info"]
    ]


def read_categories(categories: Any, file: str, drop_colors: bool = False) -> LabelTable:
    """Build the label table from the ``categories`` of a JSON.

    Args:
        categories (list[dict]): From the JSON.
        file (str): The JSON's path, for messages.
        drop_colors (bool): Warn of colours that are none and choose others, since they serve
            drawing alone; else they are errors.

    Returns:
        LabelTable: Contiguous label = position in the list.

    Raises:
        PanopticFormatError: If the list is missing or entries are wrong; all are listed.
    """
    if not isinstance(categories, list) or not categories:
        detail = "the file has no list 'categories' (each with id, name and isthing)"
        raise PanopticFormatError([FormatProblem("missing_field", detail, file)])
    reader = CocoFile({}, file)
    entries: list[Any] = []
    for position, category in enumerate(categories):
        place = place_of("categories", position, category)
        if not reader.has_fields(category, ("id", "name", "isthing"), place):
            continue
        wrong = find_category_problem(category)
        if wrong is None or not (drop_colors and wrong[0] == "color"):
            entries.append(category)
        else:
            entries.append({key: value for key, value in category.items() if key != "color"})
        if wrong is not None:
            reader.add("bad_field", f"{place}.{wrong[0]} {wrong[1]}")
    _check_repetition(reader, entries)
    if drop_colors and reader.problems and all(".color " in p.detail for p in reader.problems):
        from mmengine.logging import print_log

        text = f"{describe_problems(reader.problems)}\nother colours are chosen"
        print_log(text, "current", logging.WARNING)
    else:
        reader.raise_problems()
    return LabelTable.from_categories(entries)


def _check_repetition(reader: CocoFile, entries: Sequence[Mapping[str, Any]]) -> None:
    """Note ids and names that several categories have."""
    for field in ("id", "name"):
        places: dict[str, list[str]] = {}
        other = "name" if field == "id" else "id"
        for entry in entries:
            places.setdefault(repr(entry[field]), []).append(repr(entry[other]))
        for value, others in places.items():
            if len(others) > 1:
                pair = " and ".join(others)
                detail = f"categories repeat the {field} {value} ({other} {pair})"
                reader.add("duplicate_category", detail)


def check_categories(table: LabelTable, categories: Any, file: str) -> list[str]:
    """Compare a static label table with the categories of a JSON, in both directions.

    Args:
        table (LabelTable): The dataset's classes.
        categories (list[dict]): From the JSON.
        file (str): The JSON's path, for messages.

    Returns:
        list[str]: Names of classes that no category of the JSON stands for.

    Raises:
        PanopticFormatError: If a category is unknown to the table, or id, name or isthing differ.
    """
    problems = []
    ids = {label.name: label.dataset_id for label in table}
    found = read_categories(categories, file, drop_colors=True)
    for category in found:
        what = f"category {category.dataset_id} ({category.name})"
        if not table.has_dataset_id(category.dataset_id):
            detail = f"{what} is in the JSON but not in the metainfo"
            if category.name in ids:
                detail += f", which has {category.name} with id {ids[category.name]}"
            problems.append(FormatProblem("category_mismatch", detail, file))
            continue
        label = table.by_dataset_id(category.dataset_id)
        if (label.name, label.isthing) != (category.name, category.isthing):
            detail = (
                f"{what}, isthing {int(category.isthing)}, is {label.name}, isthing "
                f"{int(label.isthing)}, in the metainfo"
            )
            problems.append(FormatProblem("category_mismatch", detail, file))
    if problems:
        raise PanopticFormatError(problems)
    return [label.name for label in table if not found.has_dataset_id(label.dataset_id)]
