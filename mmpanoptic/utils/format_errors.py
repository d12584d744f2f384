"""Problems of panoptic files and maps, as data and as one exception class."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .files import write_json

PROBLEM_KINDS: dict[str, str] = {
    "missing_file": "check the folder and the file_name field",
    "corrupt_png": "write the file again",
    "corrupt_json": "write the file again",
    "corrupt_image": "restore the image file",
    "damaged_shard": (
        "copy the shards and their JSON again, from one run of tools/dataset_converters/shard.py"
    ),
    "bad_image_mode": "convert the image to 8-bit grey or colour",
    "bad_png_mode": (
        "write 8-bit RGB with id = R + 256 G + 65536 B; grey, palette and 16-bit files carry "
        "no such ids"
    ),
    "bad_label_png": (
        "write one number per pixel as a grey PNG of 8 or 16 bits or a palette PNG, without colours"
    ),
    "size_mismatch": (
        "image, annotation and prediction have one size; nothing may be padded or resized"
    ),
    "missing_field": "add the field to the JSON",
    "bad_field": "correct the field in the JSON",
    "bad_id": "use whole numbers from 1 to 2**24 - 1, unique inside an image",
    "zero_id": "number segments from 1; 0 is void and must not be listed",
    "duplicate_segment_id": "give every segment of an image an id of its own",
    "duplicate_category": "list every category once",
    "duplicate_image": "list every image once, each with an id of its own",
    "duplicate_annotation": "give every annotation an id of its own, from 1 on",
    "zero_annotation": "number annotations from 1 on; our evaluation does so itself",
    "bad_segmentation": (
        "write polygons [[x1, y1, x2, y2, ...], ...] in pixels with at least three points each, or "
        "a run-length code {size: [height, width], counts} that covers the image; take "
        "annotations without a mask out"
    ),
    "bad_shape": "correct the shape in the labelling program, or delete it there",
    "overlapping_masks": (
        "a panoptic map has one segment per pixel: choose which is on top with --overlap "
        "smaller-on-top, first, last or score"
    ),
    "too_many_instances": "divide the image, or make ids in another way",
    "missing_image": "add the image to the JSON's images, with an id of equal value and type",
    "empty_annotation": (
        "annotate the image or take it out of the JSON; in training on_error=skip passes over it"
    ),
    "unannotated_image": "annotate the image or take it out of the JSON; it is never used",
    "unknown_class": "add the class to the class list, or name it under ignore there",
    "unsafe_path": "file names are relative to the prefix folder and stay inside it",
    "category_mismatch": (
        "classes of the metainfo and categories of the JSON must agree in id, name and isthing"
    ),
    "duplicate_prediction": "keep one prediction per image",
    "missing_prediction": "predict every image of the ground truth, with an equal image_id",
    "png_id_not_in_json": "list the segment in segments_info or paint its pixels with 0 (void)",
    "json_id_not_in_png": "drop the segment from segments_info or paint it into the PNG",
    "unknown_category": "use the ids of the JSON's categories, not contiguous labels",
    "wrong_area": "recompute area as the number of the segment's pixels in the PNG",
    "large_area": (
        "recompute area as the number of the segment's pixels in the PNG; PQ, which takes areas as "
        "given, comes out too low"
    ),
    "wrong_box": "recompute bbox as [x, y, width, height] of the segment's pixels in the PNG",
    "impossible_iou": (
        "PQ, SQ and RQ are meaningless until area is the number of the segment's pixels in the "
        "PNG and no segment has id 0"
    ),
    "empty_group": "no class of the group occurs in the data",
}
"""Machine-readable kinds of problems and what to do about each."""


@dataclass(frozen=True)
class FormatProblem:
    """One problem of one image or file.

    Attributes:
        kind (str): A key of :data:`PROBLEM_KINDS`.
        detail (str): What is wrong.
        file (str | None): Path of the PNG or JSON concerned.
        image_id (Any): The JSON's ``image_id``; None if the problem is not about one image.
        segment_ids (tuple): Ids of the segments concerned.
    """

    kind: str
    detail: str
    file: str | None = None
    image_id: Any = None
    segment_ids: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in PROBLEM_KINDS:
            raise ValueError(f"unknown kind of problem {self.kind!r}; add it to PROBLEM_KINDS")

    def __str__(self) -> str:
        place = f"image {self.image_id!r}: " if self.image_id is not None else ""
        file = f" ({self.file})" if self.file else ""
        text = f"[{self.kind}] {place}{self.detail}{file}"
        # A JSON can hold half of a character, which no log or terminal takes.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as plain values for JSON."""
        return {
            "kind": self.kind,
            "detail": self.detail,
            "file": self.file,
            "image_id": self.image_id,
            "segment_ids": list(self.segment_ids),
        }


class PanopticFormatError(ValueError):
    """Panoptic files or maps break the format.

    Args:
        problems (Iterable[FormatProblem] | str): All problems found, at least one; or the text of
            such an error, from which torch makes the errors of worker processes again.

    Attributes:
        problems (tuple[FormatProblem, ...]): In the order in which they were found.
        kind (str): Kind of the first problem.
        kinds (list[str]): All kinds, sorted.
    """

    MAX_SHOWN = 20
    """Problems of a kind that the message spells out; all are in ``problems``."""

    def __init__(self, problems: Iterable[FormatProblem] | str) -> None:
        self.problems = tuple(_read(problems) if isinstance(problems, str) else problems)
        super().__init__(self.problems)
        self.kind = self.problems[0].kind
        self.kinds = sorted({problem.kind for problem in self.problems})

    def __str__(self) -> str:
        return describe_problems(self.problems, self.MAX_SHOWN)


def _read(text: str) -> list[FormatProblem]:
    """Read the problems in a text of :func:`describe_problems`; the details stay as they are."""
    lines = text.rpartition(f"{PanopticFormatError.__name__}: ")[2].splitlines()
    found = [re.fullmatch(r"  \[(\w+)\] (.*)", line) for line in lines]
    problems = [FormatProblem(match[1], match[2]) for match in found if match is not None]
    if not problems:
        raise TypeError("a PanopticFormatError is made of problems")
    return problems


def format_error(
    kind: str, detail: str, file: str | os.PathLike[str] | None = None, image_id: Any = None
) -> PanopticFormatError:
    """Make the error of a single problem.

    Args:
        kind: A key of :data:`PROBLEM_KINDS`.
        detail: What is wrong.
        file: The file concerned.
        image_id: The JSON's ``image_id``.

    Returns:
        PanopticFormatError: To raise.
    """
    name = None if file is None else os.fspath(file)
    return PanopticFormatError([FormatProblem(kind, detail, name, image_id)])


class PanopticFormatWarning(UserWarning):
    """Panoptic files are odd, but can be evaluated."""


def describe_problems(problems: Iterable[FormatProblem], max_shown: int = 20) -> str:
    """Write problems as text: the list, and for each kind the number and what to do.

    Args:
        problems: At least one.
        max_shown: Problems of a kind to spell out.

    Returns:
        str: Several lines.
    """
    problems = list(problems)
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"{len(problems)} {noun} in the data:", *list_problems(problems, max_shown)]
    return "\n".join(lines)


def list_problems(problems: Sequence[FormatProblem], max_shown: int = 20) -> list[str]:
    """Write problems as lines: each kind's first ones, how many there are, what to do.

    Args:
        problems: In the order in which they were found.
        max_shown: Problems of a kind to spell out.

    Returns:
        list[str]: Lines.
    """
    counts: Counter[str] = Counter()
    lines = []
    for problem in problems:
        counts[problem.kind] += 1
        if counts[problem.kind] <= max_shown:
            lines.append(f"  {problem}")
    for kind, count in counts.items():
        if count > max_shown:
            lines.append(f"  ... and {count - max_shown} more of the kind {kind}")
    return lines + [f"{kind} x {count}: {PROBLEM_KINDS[kind]}" for kind, count in counts.items()]


@contextmanager
def problems_reported(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Write all problems of an error that passes to a JSON file; the error goes on.

    Args:
        path: The file; None writes nothing.
    """
    try:
        yield
    except PanopticFormatError as error:
        if path is not None:
            write_report(path, error.problems)
        raise


def write_report(path: str | os.PathLike[str], problems: Iterable[FormatProblem]) -> None:
    """Write problems as ``{"problems": [...]}``, each with kind, what to do, file and ids."""
    entries = [{**p.to_dict(), "way_out": PROBLEM_KINDS[p.kind]} for p in problems]
    write_json(path, {"problems": entries}, indent=1)
