"""Checks of panoptic annotations, and the segment maps that the evaluator works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmpanoptic.structures import MAX_ID, VOID_ID, FlatRuns, lookup_sorted, sorted_unique
from mmpanoptic.utils.coco_file import is_number
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError

from .panoptic_quality import UNLISTED, Categories, ImageMatch, SegmentMap


@dataclass
class ProblemLog:
    """Problems of one image or file, sorted into errors and warnings.

    Attributes:
        strict (bool): Whether :meth:`suspect` is an error.
        file (str | None): The file that problems are about.
        image_id (Any): The image that problems are about.
        errors (list[FormatProblem]): What makes a result impossible or meaningless.
        warnings (list[FormatProblem]): What is odd, but can be evaluated.
    """

    strict: bool = True
    file: str | None = None
    image_id: Any = None
    errors: list[FormatProblem] = field(default_factory=list)
    warnings: list[FormatProblem] = field(default_factory=list)

    def at(self, file: str | None = None, image_id: Any = None) -> ProblemLog:
        """Return a problems of another place that writes into the same lists."""
        return ProblemLog(self.strict, file, image_id, self.errors, self.warnings)

    def error(self, kind: str, detail: str, segments: Sequence[Any] = ()) -> None:
        """Note what the published evaluator rejects as well."""
        self.errors.append(self._problem(kind, detail, segments))

    def suspect(self, kind: str, detail: str, segments: Sequence[Any] = ()) -> None:
        """Note what the published evaluator turns into a wrong number: an error if strict."""
        into = self.errors if self.strict else self.warnings
        into.append(self._problem(kind, detail, segments))

    def warn(self, kind: str, detail: str, segments: Sequence[Any] = ()) -> None:
        """Note what is odd, but has a meaning."""
        self.warnings.append(self._problem(kind, detail, segments))

    def adopt(self, error: PanopticFormatError) -> None:
        """Take over the problems of an exception, adding the image."""
        self.errors += [replace(p, image_id=self.image_id) for p in error.problems]

    def _problem(self, kind: str, detail: str, segments: Sequence[Any]) -> FormatProblem:
        shown = ""
        if len(segments):
            more = f" and {len(segments) - 8} more" if len(segments) > 8 else ""
            shown = f" (segment ids {', '.join(map(repr, segments[:8]))}{more})"
        return FormatProblem(kind, detail + shown, self.file, self.image_id, tuple(segments))


def usable_segments(segments_info: Any, required: Sequence[str], problems: ProblemLog) -> bool:
    """Check that ``segments_info`` is a list of objects that have the required fields.

    Args:
        segments_info: As read from the JSON.
        required: Field names.
        problems: Takes the problems.

    Returns:
        bool: Whether the list can be used.
    """
    needed = set(required)
    if type(segments_info) is not list and (
        not isinstance(segments_info, Sequence) or isinstance(segments_info, str | bytes)
    ):
        problems.error(
            "bad_field", f"segments_info must be a list, got {type(segments_info).__name__}"
        )
        return False
    before = len(problems.errors)
    if all(type(s) is dict and s.keys() >= needed for s in segments_info):
        return True
    for name in required:
        lacking = [s.get("id") for s in segments_info if isinstance(s, Mapping) and name not in s]
        if lacking:
            problems.error("missing_field", f"segments_info lacks {name}", lacking)
    if not all(isinstance(segment, Mapping) for segment in segments_info):
        problems.error("bad_field", "every entry of segments_info must be an object")
    return len(problems.errors) == before


def check_ground_truth_values(
    segments_info: Sequence[Mapping[str, Any]], problems: ProblemLog
) -> bool:
    """Check the types of ``area``, ``iscrowd`` and ``category_id`` where they are given."""
    before = len(problems.errors)
    tests = {
        "area": is_number,
        "category_id": lambda v: isinstance(v, int | float | str),
    }
    for name, test in tests.items():
        wrong = [s["id"] for s in segments_info if name in s and not test(s[name])]
        if wrong:
            problems.error("bad_field", f"{name} has a value of the wrong type", wrong)
    odd = [s["id"] for s in segments_info if s.get("iscrowd", 0) not in (0, 1)]
    if odd:
        problems.suspect("bad_field", "iscrowd must be 0 or 1; other values count as 0", odd)
    return len(problems.errors) == before


def ground_truth_map(
    runs: FlatRuns,
    segments_info: Sequence[Mapping[str, Any]],
    categories: Categories,
    problems: ProblemLog,
) -> SegmentMap:
    """Build the ground truth of one image.

    Args:
        runs (FlatRuns): The id map, 0 = void.
        segments_info: Each with ``id`` and ``category_id``; ``area`` (missing: counted) and
            ``iscrowd`` (missing: 0).
        categories: Has every ``category_id``.
        problems: Takes the problems.

    Returns:
        SegmentMap: Meaningful if ``problems.errors`` stays empty.
    """
    listed = _by_id(segments_info, problems)
    bad = [key for key in listed if not _is_id(key) and key != VOID_ID]
    if bad:
        problems.suspect("bad_id", "segments are listed under impossible ids", bad)
    # An impossible id has no pixels; numbers beyond all real ids keep its segment (as missed).
    keys = [
        key if _is_id(key) or key == VOID_ID else MAX_ID + 1 + i for i, key in enumerate(listed)
    ]
    table, slots = _tabulate(runs, np.array(keys, np.int64))
    start, slot, slot_ids, pixels = table
    _report_unlisted(problems.warn, slot_ids, slots, pixels, "the ground truth's")
    empty = [
        k for k, s in zip(listed, slots.tolist(), strict=True) if not pixels[s] and k not in bad
    ]
    if empty:
        problems.warn(
            "json_id_not_in_png", "listed segments have no pixels; they count as missed", empty
        )
    category = np.full(len(slot_ids), UNLISTED, np.int32)
    category[slots] = [categories.position[s["category_id"]] for s in listed.values()]
    area = pixels.astype(np.float64)
    given = [s.get("area", a) for s, a in zip(listed.values(), area[slots], strict=True)]
    area[slots] = given
    wrong = (area != pixels)[slots] & (pixels[slots] > 0)
    if wrong.any():
        which = [key for key, flag in zip(listed, wrong.tolist(), strict=True) if flag]
        problems.warn(
            "wrong_area", "area differs from the pixels in the PNG and is used as given", which
        )
    crowd_slots = slots[[s.get("iscrowd", 0) == 1 for s in listed.values()]]
    crowd = np.zeros(len(slot_ids), bool)
    crowd[crowd_slots] = True
    return SegmentMap(runs.shape, start, slot, slot_ids, category, area, crowd, crowd_slots)


def prediction_map(
    runs: FlatRuns,
    segments_info: Sequence[Mapping[str, Any]],
    categories: Categories,
    problems: ProblemLog,
) -> SegmentMap:
    """Build the prediction of one image.

    Args:
        runs (FlatRuns): The id map, 0 = void.
        segments_info: Each with ``id`` and ``category_id``; areas are counted.
        categories: Of the ground truth.
        problems: Takes the problems.

    Returns:
        SegmentMap: Meaningful if ``problems.errors`` stays empty.
    """
    listed = _by_id(segments_info, problems)
    bad = [key for key in listed if not _is_id(key) and key != VOID_ID]
    too_large = [key for key in bad if type(key) is int and key > MAX_ID]
    if too_large:
        detail = "listed segments cannot be in a PNG, whose largest id is 2**24 - 1"
        problems.error("json_id_not_in_png", detail, too_large)
    if len(bad) > len(too_large):
        others = [key for key in bad if key not in too_large]
        problems.error("bad_id", "segments are listed under impossible ids", others)
    for key in bad:
        del listed[key]
    position = []
    for key, segment in listed.items():
        position.append(_listed_category(segment["category_id"], categories))
        if position[-1] == UNLISTED:
            problems.error("unknown_category", f"category_id {segment['category_id']!r}", [key])
    table, slots = _tabulate(runs, np.array(list(listed), np.int64))
    start, slot, slot_ids, pixels = table
    _report_unlisted(problems.error, slot_ids, slots, pixels, "the prediction's")
    empty = [key for key, s in zip(listed, slots.tolist(), strict=True) if not pixels[s]]
    if empty:
        problems.error("json_id_not_in_png", "listed segments have no pixels", empty)
    category = np.full(len(slot_ids), UNLISTED, np.int32)
    category[slots] = position
    no_crowd = np.zeros(len(slot_ids), bool)
    area = pixels.astype(np.float64)
    return SegmentMap(runs.shape, start, slot, slot_ids, category, area, no_crowd, slots[:0])


def check_sizes(gt: tuple[int, ...], pred: tuple[int, ...], problems: ProblemLog) -> bool:
    """Check that a prediction has the size of its ground truth, ``(H, W)`` each."""
    if gt == pred:
        return True
    problems.error(
        "size_mismatch", f"the prediction is {pred[0]}x{pred[1]}, its image {gt[0]}x{gt[1]}"
    )
    return False


def check_overlap(match: ImageMatch, problems: ProblemLog) -> None:
    """Report IoUs above 1, which only wrong areas and listed voids produce."""
    if (match.iou > 1).any():
        detail = f"IoU {match.iou.max():.3g} > 1: annotated areas are too small or id 0 is listed"
        problems.suspect("impossible_iou", detail)


def _is_id(key: Any) -> bool:
    return type(key) is int and 0 < key <= MAX_ID


def _listed_category(category_id: Any, categories: Categories) -> int:
    if not isinstance(category_id, int | float | str):
        return UNLISTED
    position = categories.position.get(category_id, UNLISTED)
    return position if position < categories.num_listed else UNLISTED


def _by_id(
    segments_info: Sequence[Mapping[str, Any]], problems: ProblemLog
) -> dict[Any, Mapping[str, Any]]:
    """Index segments by id; of two with one id the last counts, as in the published evaluator."""
    listed: dict[Any, Mapping[str, Any]] = {}
    double = []
    for segment in segments_info:
        key = segment["id"]
        if isinstance(key, list | dict):
            problems.error("bad_id", f"a segment id is {key!r}")
            continue
        if key in listed:
            double.append(key)
        listed[key] = segment
    if double:
        problems.suspect("duplicate_segment_id", "ids are listed more than once", double)
    if VOID_ID in listed:
        problems.suspect("zero_id", "id 0, which is void, is listed as a segment", [VOID_ID])
    return listed


def _tabulate(
    runs: FlatRuns, listed: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Give all ids of a map and a list ascending slots.

    Returns:
        tuple: Starts and slots of the runs, ids and pixel counts of the slots; and the slots of
        the listed ids.
    """
    present = sorted_unique(runs.value).astype(np.int64)
    slot_ids = sorted_unique(np.concatenate([present, listed, [VOID_ID]]))
    slot = np.searchsorted(slot_ids, runs.value)
    pixels = np.bincount(slot, runs.length, len(slot_ids)).astype(np.int64)
    narrow = np.uint16 if len(slot_ids) <= 1 << 16 else np.int32
    table = (runs.start.astype(np.int32), slot.astype(narrow), slot_ids, pixels)
    return table, lookup_sorted(slot_ids, listed)


def _report_unlisted(
    report: Any, slot_ids: np.ndarray, slots: np.ndarray, pixels: np.ndarray, whose: str
) -> None:
    unlisted = np.ones(len(slot_ids), bool)
    unlisted[0] = False
    unlisted[slots] = False
    extra = slot_ids[unlisted & (pixels > 0)].tolist()
    if extra:
        report("png_id_not_in_json", f"{whose} PNG has ids that segments_info does not list", extra)
