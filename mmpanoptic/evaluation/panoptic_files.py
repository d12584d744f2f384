"""Panoptic quality of result files in COCO-panoptic format."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mmpanoptic.structures import joint_color_runs
from mmpanoptic.utils import read_json
from mmpanoptic.utils.files import is_file_name, is_inside
from mmpanoptic.utils.format_errors import (
    FormatProblem,
    PanopticFormatError,
    PanopticFormatWarning,
    describe_problems,
)
from mmpanoptic.utils.jobs import usable_cpus
from mmpanoptic.utils.panoptic_png import read_panoptic_colors

from .panoptic_checks import (
    ProblemLog,
    check_ground_truth_values,
    check_overlap,
    check_sizes,
    ground_truth_map,
    prediction_map,
    usable_segments,
)
from .panoptic_quality import (
    Categories,
    ImageMatch,
    PanopticQuality,
    SegmentMap,
    accumulate,
    match_segments,
    summarize,
)
from .panoptic_tables import describe_image

PathLike = str | os.PathLike[str]
Look = Callable[[Mapping[str, Any], Mapping[str, Any], SegmentMap, SegmentMap], Any]
"""Takes the entries of an image in both JSONs, and both maps; runs are in no order of pixels."""


@dataclass(frozen=True)
class FileEvaluation:
    """Result of :func:`evaluate_files`.

    Attributes:
        quality (PanopticQuality): Averages, values per class, sums per category.
        images (list[tuple]): ``image_id``, ``file_name`` and :class:`ImageMatch` of each image, in
            the order of the ground truth.
        categories (Categories): The ground truth's categories.
        warnings (list[FormatProblem]): What was odd, but could be evaluated.
        positions (list[int]): Place of each image among the ground truth's annotations.
        total (int): Number of the ground truth's annotations.
        unlisted (list[tuple]): Categories that only segments use, and the place of the first
            annotation that does.
        seen (list): What ``look`` returned for each image.
    """

    quality: PanopticQuality
    images: list[tuple[Any, str, ImageMatch]]
    categories: Categories
    warnings: list[FormatProblem]
    positions: list[int]
    total: int
    unlisted: list[tuple[Any, int]]
    seen: list[Any] = field(default_factory=list)

    @cached_property
    def per_image(self) -> list[dict[str, Any]]:
        """Of each image ``image_id``, ``file_name``, ``pq``, ``sq``, ``rq``, ``n`` and ``stats``.

        Averages inside the image over ``n`` classes, and sums per category id.
        """
        return [
            describe_image(match, self.categories, image_id, file_name)
            for image_id, file_name, match in self.images
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; nan becomes None."""
        quality = self.quality
        content = {
            **quality.averages,
            "per_class": {str(key): value for key, value in quality.per_class.items()},
            "per_category_stats": {str(k): v for k, v in quality.per_category_stats.items()},
            "per_image": [
                {**image, "stats": {str(k): v for k, v in image["stats"].items()}}
                for image in self.per_image
            ],
            "warnings": [problem.to_dict() for problem in self.warnings],
        }
        return _without_nan(content)


@dataclass(frozen=True)
class _Job:
    """One image to evaluate: ground truth and prediction as in the JSON files."""

    gt: Mapping[str, Any]
    pred: Mapping[str, Any]
    problems: ProblemLog = field(compare=False)


def evaluate_files(
    gt_json: PathLike,
    pred_json: PathLike,
    gt_folder: PathLike | None = None,
    pred_folder: PathLike | None = None,
    workers: int | None = None,
    strict: bool = True,
    fill_missing: bool = False,
    choose: Callable[[Sequence[Any]], list[int]] | None = None,
    look: Look | None = None,
) -> FileEvaluation:
    """Compute panoptic quality from COCO-panoptic JSON files and folders of PNGs.

    The bits of the result do not depend on ``workers``. Memory is one pair of maps per worker.

    Args:
        gt_json: Ground truth.
        pred_json: Predictions; only ``annotations`` is needed.
        gt_folder: PNGs of the ground truth. Default: ``gt_json`` without ``.json``.
        pred_folder: PNGs of the predictions. Default: ``pred_json`` without ``.json``.
        workers: Threads. Default: the CPUs this process may use.
        strict: Treat input that the published evaluator turns into wrong numbers as errors.
            False (parity): follow the published evaluator wherever it gives a number.
        fill_missing: Count the pixels where the ground truth lacks ``area`` and take a missing
            ``iscrowd`` as 0, instead of reporting ``missing_field``.
        choose: Takes the ``image_id`` of every annotation of the ground truth and returns the
            ascending positions of those to evaluate. Default: all.
        look: Called for each image, in threads; what it returns is kept in ``seen``.

    Returns:
        FileEvaluation: The result.

    Raises:
        PanopticFormatError: With all problems of the file set.
        ValueError: If ``workers`` is less than 1.
    """
    workers = usable_cpus() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    problems = ProblemLog(strict)
    gt_problems, pred_problems = problems.at(os.fspath(gt_json)), problems.at(os.fspath(pred_json))
    gt = _read_object(gt_json, ("annotations", "categories"), gt_problems)
    pred = _read_object(pred_json, ("annotations",), pred_problems)
    if gt is None or pred is None:
        raise PanopticFormatError(problems.errors)
    categories = _read_categories(gt["categories"], gt_problems)
    annotations = gt["annotations"]
    positions = list(range(len(annotations)))
    if choose is not None:
        positions = choose([a.get("image_id") for a in annotations if isinstance(a, Mapping)])
        gt["annotations"] = [annotations[position] for position in positions]
    jobs, unlisted = _join(gt, pred, categories, gt_problems, pred_problems, fill_missing)
    places = [(key, positions[number]) for key, number in unlisted.items()]
    everything = (*categories.ids, *unlisted)
    categories = Categories(everything, categories.names, categories.isthing)
    folders = (_folder(gt_json, gt_folder), _folder(pred_json, pred_folder))
    work = partial(_evaluate_image, categories=categories, folders=folders, look=look)
    outcomes = _run_in_threads(work, jobs, workers)
    for job in jobs:
        problems.errors += job.problems.errors
        problems.warnings += job.problems.warnings
    if problems.errors:
        raise PanopticFormatError(problems.errors)
    done = [(job.gt, *found) for job, found in zip(jobs, outcomes, strict=True) if found]
    images = [(gt["image_id"], gt["file_name"], match) for gt, match, _ in done]
    seen = [what for _, _, what in done]
    result = collect(
        images, categories, problems.warnings, positions, len(annotations), places, seen
    )
    _warn(result.warnings)
    return result


def _run_in_threads(
    work: Callable[[_Job], tuple[ImageMatch, Any] | None], jobs: Sequence[_Job], workers: int
) -> list[tuple[ImageMatch, Any] | None]:
    """Do all jobs; each thread takes the next one when it is free."""
    if workers == 1:
        return list(map(work, jobs))
    results: list[tuple[ImageMatch, Any] | None] = [None] * len(jobs)
    waiting = iter(enumerate(jobs))

    def take(_: int) -> None:
        for number, job in waiting:
            results[number] = work(job)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(take, range(workers)))  # asks each thread whether it failed
    return results


def _warn(problems: list[FormatProblem]) -> None:
    """Emit one warning, and one of its own for IoUs above 1, which spoil the result."""
    impossible = [problem for problem in problems if problem.kind == "impossible_iou"]
    for group in (impossible, [problem for problem in problems if problem not in impossible]):
        if group:
            loud = "THE RESULT IS MEANINGLESS. " if group is impossible else ""
            text = loud + describe_problems(group)
            warnings.warn(text, PanopticFormatWarning, stacklevel=3)


def _read_object(
    path: PathLike, required: Iterable[str], problems: ProblemLog
) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except OSError as error:
        problems.error("missing_file", f"cannot read the JSON: {error.strerror}")
        return None
    except ValueError as error:
        problems.error("corrupt_json", str(error))
        return None
    if not isinstance(content, dict):
        problems.error("bad_field", f"expected a JSON object, got a {type(content).__name__}")
        return None
    lacking = [name for name in required if name not in content]
    if lacking:
        problems.error("missing_field", f"the JSON lacks {', '.join(lacking)}")
        return None
    wrong = [name for name in required if not isinstance(content[name], list)]
    if wrong:
        problems.error("bad_field", f"{', '.join(wrong)} must be a list")
        return None
    return content


def _folder(json_path: PathLike, folder: PathLike | None) -> Path:
    return Path(folder) if folder is not None else Path(os.fspath(json_path).replace(".json", ""))


def _read_categories(entries: list[Any], problems: ProblemLog) -> Categories:
    """Read the categories and report the broken ones."""
    by_id: dict[Any, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            problems.error("bad_field", f"categories[{number}] must be an object")
            continue
        lacking = [name for name in ("id", "isthing") if name not in entry]
        if lacking:
            problems.error("missing_field", f"categories[{number}] lacks {', '.join(lacking)}")
        if not isinstance(entry.get("id"), int | str):
            if "id" in entry:
                problems.error("bad_field", f"categories[{number}]: id must be an integer")
            continue
        if entry.get("isthing", 0) not in (0, 1):
            problems.suspect("bad_field", f"categories[{number}]: isthing must be 0 or 1")
        if entry["id"] in by_id:
            problems.suspect("duplicate_category", f"category {entry['id']!r} is listed twice")
        by_id[entry["id"]] = entry
    return Categories(
        tuple(by_id),
        tuple(str(entry.get("name", key)) for key, entry in by_id.items()),
        tuple(entry.get("isthing") == 1 for entry in by_id.values()),
    )


def _join(
    gt: Mapping[str, Any],
    pred: Mapping[str, Any],
    categories: Categories,
    gt_problems: ProblemLog,
    pred_problems: ProblemLog,
    fill_missing: bool,
) -> tuple[list[_Job], dict[Any, int]]:
    """Pair annotations by ``image_id``, check their fields, and gather unlisted categories."""
    predictions: dict[Any, Mapping[str, Any]] = {}
    for image_id, annotation in _by_image(pred["annotations"], pred_problems):
        if image_id in predictions:
            problem = "the image is predicted more than once"
            pred_problems.at(pred_problems.file, image_id).suspect("duplicate_prediction", problem)
        predictions[image_id] = annotation
    as_text = {str(image_id): image_id for image_id in predictions}
    needed = ("id", "category_id") if fill_missing else ("id", "category_id", "area", "iscrowd")
    jobs: list[_Job] = []
    seen = set()
    unlisted: dict[Any, int] = {}
    if not gt["annotations"]:
        gt_problems.warn("empty_annotation", "the ground truth lists no annotations")
    for image_id, annotation in _by_image(gt["annotations"], gt_problems):
        problems = gt_problems.at(gt_problems.file, image_id)
        if image_id in seen:
            problems.warn("duplicate_image", "the image is annotated, and counts, more than once")
        seen.add(image_id)
        usable = _has_files(annotation, needed, problems)
        usable = usable and check_ground_truth_values(annotation["segments_info"], problems)
        prediction = predictions.get(image_id)
        problems = pred_problems.at(pred_problems.file, image_id)
        if prediction is None:
            _report_missing(image_id, as_text, problems)
        elif _has_files(prediction, ("id", "category_id"), problems) and usable:
            own = ProblemLog(gt_problems.strict, None, image_id)
            new = _unlisted(annotation, categories, own.at(gt_problems.file, image_id))
            for key in new:
                unlisted.setdefault(key, len(jobs))
            jobs.append(_Job(annotation, prediction, own))
    return jobs, unlisted


def _by_image(
    annotations: list[Any], problems: ProblemLog
) -> Iterable[tuple[Any, Mapping[str, Any]]]:
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping):
            problems.error("bad_field", f"annotations[{number}] must be an object")
        elif "image_id" not in annotation:
            problems.error("missing_field", f"annotations[{number}] lacks image_id")
        elif not isinstance(annotation["image_id"], int | str):
            problems.error(
                "bad_field", f"annotations[{number}]: image_id must be an integer or text"
            )
        else:
            yield annotation["image_id"], annotation


def _has_files(annotation: Mapping[str, Any], needed: Iterable[str], problems: ProblemLog) -> bool:
    lacking = [name for name in ("file_name", "segments_info") if name not in annotation]
    if lacking:
        problems.error("missing_field", f"the annotation lacks {', '.join(lacking)}")
        return False
    name = annotation["file_name"]
    if not is_file_name(name):
        problems.error("bad_field", f"file_name must be a file name, got {name!r}")
        return False
    if not is_inside(name):
        problems.error("unsafe_path", f"file_name {name!r} leads out of its folder")
        return False
    return usable_segments(annotation["segments_info"], tuple(needed), problems)


def _report_missing(image_id: Any, as_text: Mapping[str, Any], problems: ProblemLog) -> None:
    detail = "no prediction for the image"
    if str(image_id) in as_text:
        other = as_text[str(image_id)]
        detail += (
            f"; there is one for {other!r}, which is {type(other).__name__} where the ground "
            f"truth has {type(image_id).__name__}"
        )
    problems.error("missing_prediction", detail)


def _unlisted(
    annotation: Mapping[str, Any], categories: Categories, problems: ProblemLog
) -> dict[Any, None]:
    """Find the annotation's categories that ``categories`` lacks, in order."""
    found: dict[Any, None] = {}
    as_text = {str(key): key for key in categories.position}
    for segment in annotation["segments_info"]:
        if segment["category_id"] not in categories.position:
            found[segment["category_id"]] = None
            twin = as_text.get(str(segment["category_id"]))
            if twin is not None:
                detail = f"category_id {segment['category_id']!r} is not among the categories, but "
                detail += f"{twin!r} is: the types differ (number and text)"
                problems.error("unknown_category", detail, [segment["id"]])
                continue
            detail = (
                f"category_id {segment['category_id']!r} is not among the categories; its "
                "segments are counted, but not averaged"
            )
            problems.warn("unknown_category", detail, [segment["id"]])
    return found


def _evaluate_image(
    job: _Job, categories: Categories, folders: tuple[Path, Path], look: Look | None
) -> tuple[ImageMatch, Any] | None:
    if job.problems.errors:
        return None
    paths = (folders[0] / job.gt["file_name"], folders[1] / job.pred["file_name"])
    gt_problems, pred_problems = (
        job.problems.at(str(path), job.problems.image_id) for path in paths
    )
    colors = []
    for path, problems in zip(paths, (gt_problems, pred_problems), strict=True):
        try:
            colors.append(read_panoptic_colors(path))
        except PanopticFormatError as error:
            problems.adopt(error)
    if len(colors) < 2 or not check_sizes(colors[0].shape[:2], colors[1].shape[:2], pred_problems):
        return None
    gt_runs, pred_runs = joint_color_runs(*colors)
    gt = ground_truth_map(gt_runs, job.gt["segments_info"], categories, gt_problems)
    pred = prediction_map(pred_runs, job.pred["segments_info"], categories, pred_problems)
    if job.problems.errors:
        return None
    match = match_segments(gt, pred)
    check_overlap(match, gt_problems)
    return match, look(job.gt, job.pred, gt, pred) if look else None


def collect(
    images: list[tuple[Any, str, ImageMatch]],
    categories: Categories,
    warnings: list[FormatProblem],
    positions: list[int],
    total: int,
    unlisted: list[tuple[Any, int]],
    seen: Sequence[Any] = (),
) -> FileEvaluation:
    """Add what the images contribute; the arguments are the attributes of the result.

    Args:
        images: In the order of the ground truth, which decides the last bits.
        categories: Listed ones first.
        warnings: So far; empty groups are added.
        positions: Of the images.
        total: Of the whole ground truth.
        unlisted: With places.
        seen: Of each image.
    """
    matches = [match for _, _, match in images]
    quality = summarize(accumulate(matches, len(categories.ids)), categories)
    problems = ProblemLog(True)
    for name, values in quality.averages.items():
        if not values["n"]:
            problems.warn("empty_group", f"{name}: no category occurs; its values are nan")
    problems.warnings[:0] = warnings
    return FileEvaluation(
        quality, images, categories, problems.warnings, positions, total, unlisted, list(seen)
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
