"""Reading and checking of COCO-panoptic JSON files (ground truth)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.structures import MAX_ID, LabelTable
from mmpanoptic.utils.files import is_inside, read_json
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError


def load_json_object(path: str, hint: str = "") -> dict[str, Any]:
    """Read a JSON file whose top level is an object.

    Args:
        path (str): The file.
        hint (str): Where it comes from, for the message if it is missing.

    Returns:
        dict: Its content.

    Raises:
        PanopticFormatError: Of kind ``missing_file`` or ``corrupt_json``.
    """
    try:
        content = read_json(path)
    except OSError as error:
        detail = f"cannot read the annotation file: {error.strerror}"
        if hint and isinstance(error, FileNotFoundError):
            detail += f"; {hint}{_unset_variable(path)}"
        raise PanopticFormatError([FormatProblem("missing_file", detail, path)]) from error
    except ValueError as error:
        raise PanopticFormatError([FormatProblem("corrupt_json", str(error), path)]) from error
    if not isinstance(content, dict):
        detail = f"the top level must be an object, got {type(content).__name__}"
        raise PanopticFormatError([FormatProblem("corrupt_json", detail, path)])
    return content


def _unset_variable(path: str) -> str:
    """Explain a path such as ``/coco/...``, which ``$DATASETS/coco`` is without the variable."""
    parts = Path(path).parts
    if len(parts) < 3 or parts[0] != "/" or Path("/", parts[1]).exists():
        return ""
    return (
        f". There is no folder /{parts[1]}: if it was typed as $VARIABLE/{parts[1]}, the "
        f"variable is not set; ${{VARIABLE:-datasets}}/{parts[1]} falls back to ./datasets"
    )


class PanopticJson:
    """The content of a ground-truth JSON as one record per annotated image.

    All problems are collected; :meth:`records` raises one error that lists them.

    Args:
        content (Mapping): The parsed file.
        file (str): Its path, for messages.
        table (LabelTable): The classes of the dataset.
        fill_missing (bool): Accept segments without ``iscrowd`` (0 is assumed) and ``area``
            (left out of the record).
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        file: str,
        table: LabelTable,
        fill_missing: bool = False,
    ) -> None:
        self.content = content
        self.file = file
        self.table = table
        self.fill_missing = fill_missing
        self.problems: list[FormatProblem] = []

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
        if self.problems:
            raise PanopticFormatError(self.problems)
        if not records:
            detail = "the file lists no annotations"
            raise PanopticFormatError([FormatProblem("empty_annotation", detail, self.file)])
        return records

    def unannotated(self) -> list[dict[str, Any]]:
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
                "img_file": image["file_name"],
                "seg_file": None,
                "height": image["height"],
                "width": image["width"],
                "annotation_index": position,
                "segments_info": [],
            }
            for position, image in enumerate(self._images().values())
        ]
        if self.problems:
            raise PanopticFormatError(self.problems)
        return records

    def parse(self) -> list[dict[str, Any]]:
        """List what can be read, as :meth:`records` does, and collect the problems."""
        return list(self._annotations(self._images()))

    def _add(self, kind: str, detail: str, image_id: Any = None, ids: Sequence[Any] = ()) -> None:
        self.problems.append(FormatProblem(kind, detail, self.file, image_id, tuple(ids)))

    def _has_fields(self, entry: Any, fields: Sequence[str], what: str, image_id: Any) -> bool:
        if not isinstance(entry, Mapping):
            self._add("bad_field", f"{what} must be an object, got {entry!r}", image_id)
            return False
        missing = [field for field in fields if field not in entry]
        if missing:
            self._add("missing_field", f"{what} lacks {', '.join(missing)}", image_id)
        return not missing

    def _list(self, field: str) -> list[Any]:
        value = self.content.get(field)
        if not isinstance(value, list):
            self._add("missing_field", f"the file has no list {field!r}")
            return []
        return value

    def _check_name(self, name: Any, what: str, image_id: Any) -> None:
        if not isinstance(name, str) or not name:
            self._add("bad_field", f"{what} must be a file name, got {name!r}", image_id)
        elif not is_inside(name):
            self._add("unsafe_path", f"{what} {name!r} leads out of its folder", image_id)

    def _images(self) -> dict[tuple[type, Any], Mapping[str, Any]]:
        """Index ``images`` by type and value of their id, so that 1 and "1" stay apart."""
        images: dict[tuple[type, Any], Mapping[str, Any]] = {}
        for position, image in enumerate(self._list("images")):
            what = f"images[{position}]"
            image_id = image.get("id") if isinstance(image, Mapping) else None
            if not self._has_fields(image, ("id", "file_name", "height", "width"), what, image_id):
                continue
            if not isinstance(image_id, int | str):
                self._add("bad_field", f"{what}.id must be a number or text, got {image_id!r}")
                continue
            if (type(image_id), image_id) in images:
                self._add("duplicate_image", f"{what}.id is listed twice", image_id)
            for field in ("height", "width"):
                if type(image[field]) is not int or image[field] <= 0:
                    detail = f"{what}.{field} must be a positive whole number"
                    self._add("bad_field", f"{detail}, got {image[field]!r}", image_id)
            self._check_name(image["file_name"], f"{what}.file_name", image_id)
            images[type(image_id), image_id] = image
        return images

    def _annotations(
        self, images: Mapping[tuple[type, Any], Mapping[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        seen = set()
        for position, annotation in enumerate(self._list("annotations")):
            what = f"annotations[{position}]"
            image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
            fields = ("image_id", "file_name", "segments_info")
            if not self._has_fields(annotation, fields, what, image_id):
                continue
            key = (type(image_id), image_id)
            if not isinstance(image_id, int | str) or key not in images:
                self._add("missing_image", self._no_image(what, image_id, images), image_id)
                continue
            if key in seen:
                self._add("duplicate_image", f"{what} annotates the image again", image_id)
            seen.add(key)
            self._check_name(annotation["file_name"], f"{what}.file_name", image_id)
            yield {
                "img_id": image_id,
                "img_file": images[key]["file_name"],
                "seg_file": annotation["file_name"],
                "height": images[key]["height"],
                "width": images[key]["width"],
                "annotation_index": position,
                "segments_info": self._segments(annotation["segments_info"], what, image_id),
            }

    @staticmethod
    def _no_image(what: str, image_id: Any, images: Mapping[tuple[type, Any], Any]) -> str:
        detail = f"{what}.image_id {image_id!r} is not among the images"
        twin = next((known for _, known in images if str(known) == str(image_id)), None)
        if twin is not None:
            detail += f", but {twin!r} is: the types differ"
        return detail

    def _segments(self, segments: Any, what: str, image_id: Any) -> list[dict[str, Any]]:
        if not isinstance(segments, list):
            self._add("bad_field", f"{what}.segments_info must be a list", image_id)
            return []
        required = (
            ("id", "category_id") if self.fill_missing else ("id", "category_id", "iscrowd", "area")
        )
        parsed, seen = [], set()
        for position, segment in enumerate(segments):
            place = f"{what}.segments_info[{position}]"
            if not self._has_fields(segment, required, place, image_id):
                continue
            if not self._check_segment(segment, place, image_id):
                continue
            segment_id = segment["id"]
            if segment_id in seen:
                self._add("duplicate_segment_id", f"{place} repeats an id", image_id, [segment_id])
            seen.add(segment_id)
            parsed.append(self._segment(segment))
        return parsed

    def _check_segment(self, segment: Mapping[str, Any], place: str, image_id: Any) -> bool:
        """Check the values of one segment; True if they can be used."""
        segment_id, category = segment["id"], segment["category_id"]
        before = len(self.problems)
        if type(segment_id) is not int or not 0 <= segment_id <= MAX_ID:
            self._add("bad_id", f"{place}.id is {segment_id!r}", image_id, [segment_id])
        elif segment_id == 0:
            self._add("zero_id", f"{place}.id is 0", image_id, [0])
        if not self.table.has_dataset_id(category):
            detail = f"{place}.category_id {category!r} is not a category of the dataset"
            self._add("unknown_category", detail, image_id, [segment_id])
        if segment.get("iscrowd", 0) not in (0, 1):
            detail = f"{place}.iscrowd must be 0 or 1, got {segment['iscrowd']!r}"
            self._add("bad_field", detail, image_id, [segment_id])
        area = segment.get("area", 1)
        if not isinstance(area, int | float) or area < 0:
            detail = f"{place}.area must be a number of pixels, got {area!r}"
            self._add("bad_field", detail, image_id, [segment_id])
        if "bbox" in segment and not _is_box(segment["bbox"]):
            detail = f"{place}.bbox must be [x, y, width, height], got {segment['bbox']!r}"
            self._add("bad_field", detail, image_id, [segment_id])
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
            if field in segment:
                parsed[field] = segment[field]
        return parsed


def _is_box(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) == 4
    return is_list and all(type(side) in (int, float) and math.isfinite(side) for side in value)


def read_categories(categories: Any, file: str) -> LabelTable:
    """Build the label table from the ``categories`` of a JSON.

    Args:
        categories (list[dict]): From the JSON.
        file (str): The JSON's path, for messages.

    Returns:
        LabelTable: Contiguous label = position in the list.

    Raises:
        PanopticFormatError: If the list is missing or an entry is wrong.
    """
    if not isinstance(categories, list) or not categories:
        detail = "the file has no list 'categories' (each with id, name and isthing)"
        raise PanopticFormatError([FormatProblem("missing_field", detail, file)])
    if not all(isinstance(category, Mapping) for category in categories):
        detail = "every entry of 'categories' must be an object with id, name and isthing"
        raise PanopticFormatError([FormatProblem("bad_field", detail, file)])
    fields = {"id", "name", "isthing"}
    kind = "bad_field" if all(fields <= set(entry) for entry in categories) else "missing_field"
    try:
        return LabelTable.from_categories(categories)
    except (TypeError, ValueError) as error:
        raise PanopticFormatError([FormatProblem(kind, str(error), file)]) from error


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
    found = read_categories(categories, file)
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
