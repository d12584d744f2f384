"""What images contribute to PQ, mIoU and AP, as plain values, and the way back to the result."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.utils.format_errors import FormatProblem

from .coco_ap import BACKENDS, load_backend
from .panoptic_files import FileEvaluation, collect
from .panoptic_quality import Categories, ImageMatch
from .parts import EvaluationPart, fingerprint, first_seen, in_order
from .semantic_files import SemanticFileCounts

_OF_A_PART = ("empty_group", "empty_annotation")  # said anew of the whole


def panoptic_part(
    result: FileEvaluation, gt_json: str | os.PathLike[str], settings: Mapping[str, Any]
) -> EvaluationPart:
    """Keep what the images of a result contribute.

    Args:
        result (FileEvaluation): Of some of the images.
        gt_json: The ground truth.
        settings (Mapping): Options that the numbers depend on.

    Returns:
        EvaluationPart: Categories by their ids, since a part does not know the ids of others.
    """
    ids = result.categories.ids
    listed = result.categories.num_listed
    whole = {
        "ground truth": fingerprint(Path(gt_json).read_bytes()),
        "categories": [
            list(ids[:listed]),
            list(result.categories.names),
            list(result.categories.isthing),
        ],
        "settings": dict(settings),
    }
    rows = [
        [
            file_name,
            _ids(match.category, ids),
            match.iou.tolist(),
            _ids(match.false_positive, ids),
            _ids(match.false_negative, ids),
        ]
        for _, file_name, match in result.images
    ]
    warnings = [w.to_dict() for w in result.warnings if w.kind not in _OF_A_PART]
    content = {"rows": rows, "unlisted": [*map(list, result.unlisted)], "warnings": warnings}
    names = [image_id for image_id, _, _ in result.images]
    images = list(zip(result.positions, names, strict=True))
    return EvaluationPart("panoptic", whole, result.total, images, content)


def merge_panoptic(parts: Sequence[EvaluationPart]) -> FileEvaluation:
    """Add parts.

    Args:
        parts (Sequence[EvaluationPart]): From :func:`~mmpanoptic.evaluation.parts.check_parts`.

    Returns:
        FileEvaluation: With the bits of an evaluation of all images at once; its warnings are
        those of the parts, one part after the other.
    """
    listed, names, isthing = parts[0].whole["categories"]
    unlisted = first_seen(parts, "unlisted")
    categories = Categories((*listed, *unlisted), tuple(names), tuple(isthing))
    image_ids = dict(image for part in parts for image in part.images)
    images, positions = [], []
    for position, (file_name, *fields) in in_order(parts, lambda part: part.content["rows"]):
        matched, iou, wrong, missed = fields
        match = ImageMatch(
            _positions(matched, categories),
            np.array(iou, np.float64),
            _positions(wrong, categories),
            _positions(missed, categories),
        )
        images.append((image_ids[position], file_name, match))
        positions.append(position)
    warnings = [
        FormatProblem(**{**entry, "segment_ids": tuple(entry["segment_ids"])})
        for part in parts
        for entry in part.content["warnings"]
    ]
    places = {key: place for part in parts for key, place in part.content["unlisted"]}
    return collect(
        images,
        categories,
        warnings,
        positions,
        parts[0].total,
        [(key, places[key]) for key in unlisted],
    )


def _ids(positions: np.ndarray, ids: Sequence[Any]) -> list[Any]:
    return [ids[position] for position in positions.tolist()]


def _positions(ids: Sequence[Any], categories: Categories) -> np.ndarray:
    return np.array([categories.position[key] for key in ids], np.int32)


def semantic_part(
    counts: SemanticFileCounts, names: Sequence[str], settings: Mapping[str, Any]
) -> EvaluationPart:
    """Keep the pixel counts of some label maps.

    Args:
        counts (SemanticFileCounts): Of these maps.
        names (Sequence[str]): Of the classes.
        settings (Mapping): Options that the counts depend on.
    """
    whole = {
        "images": fingerprint(counts.all_ids),
        "classes": list(names),
        "settings": dict(settings),
    }
    content = {"matrix": counts.matrix.tolist(), "void": [*map(list, counts.void.items())]}
    images = [(position, counts.all_ids[position]) for position in counts.positions]
    return EvaluationPart("miou", whole, len(counts.all_ids), images, content)


def merge_semantic(parts: Sequence[EvaluationPart]) -> SemanticFileCounts:
    """Add parts; counts are integers, so their order is of no matter.

    Args:
        parts (Sequence[EvaluationPart]): From :func:`~mmpanoptic.evaluation.parts.check_parts`.
    """
    matrix = np.sum([np.array(part.content["matrix"], np.int64) for part in parts], axis=0)
    void = Counter[int]()
    for part in parts:
        void.update(dict(part.content["void"]))
    images = sorted(image for part in parts for image in part.images)
    names = [name for _, name in images]
    positions = [position for position, _ in images]
    return SemanticFileCounts(matrix, len(images), dict(sorted(void.items())), names, positions)


def average_precision_part(
    evaluator: Any,
    truth: Mapping[str, Any],
    truth_file: str | os.PathLike[str],
    iou_type: str,
    image_ids: Sequence[Any],
) -> EvaluationPart:
    """Keep the matches of some images.

    Args:
        evaluator: From :func:`~mmpanoptic.evaluation.coco_ap.match_detections` with pycocotools;
            faster-coco-eval keeps its matches to itself.
        truth (Mapping): The ground truth.
        truth_file: Its file.
        iou_type (str): ``bbox`` or ``segm``.
        image_ids (Sequence): All ids of the ground truth, in the order of positions.
    """
    parameters = evaluator.params
    whole = {
        "ground truth": fingerprint(Path(truth_file).read_bytes()),
        "iou_type": iou_type,
        "categories": [[c["id"], c["name"]] for c in truth["categories"]],
    }
    position = {image_id: number for number, image_id in enumerate(image_ids)}
    # NumPy sorted them, and made them its own.
    chosen = np.asarray(parameters.imgIds).tolist()
    rows: dict[Any, list[Any]] = {image_id: [] for image_id in chosen}
    areas = [list(area) for area in parameters.areaRng]
    for match in evaluator.evalImgs:
        if match is not None:
            rows[np.asarray(match["image_id"]).item()].append(_plain_match(match, areas))
    images = [(position[image_id], image_id) for image_id in rows]
    return EvaluationPart("coco_ap", whole, len(image_ids), images, {"rows": [*rows.values()]})


def _plain_match(match: Mapping[str, Any], areas: list[list[float]]) -> list[Any]:
    return [
        np.asarray(match["category_id"]).item(),
        areas.index(list(match["aRng"])),
        [float(score) for score in match["dtScores"]],
        (np.asarray(match["dtMatches"]) != 0).astype(int).tolist(),
        np.asarray(match["dtIgnore"]).astype(int).tolist(),
        np.asarray(match["gtIgnore"]).astype(int).tolist(),
    ]


def merge_average_precision(parts: Sequence[EvaluationPart]) -> Any:
    """Add parts.

    Args:
        parts (Sequence[EvaluationPart]): From :func:`~mmpanoptic.evaluation.parts.check_parts`.

    Returns:
        pycocotools' evaluator with the matches of all images, for
        :func:`~mmpanoptic.evaluation.coco_ap.score_matches`.
    """
    _, evaluator_class = load_backend(BACKENDS[0])
    evaluator = evaluator_class(iouType=parts[0].whole["iou_type"])
    parameters = evaluator.params
    images = in_order(parts, lambda part: part.content["rows"])
    parameters.imgIds = [position for position, _ in images]
    parameters.catIds = sorted(key for key, _ in parts[0].whole["categories"])
    thresholds = len(parameters.iouThrs)
    found = {
        (category, area, image): _match(values, thresholds)
        for image, row in images
        for category, area, *values in row
    }
    evaluator.evalImgs = [
        found.get((category, area, image))
        for category in parameters.catIds
        for area in range(len(parameters.areaRng))
        for image in parameters.imgIds
    ]
    evaluator._paramsEval = deepcopy(parameters)  # accumulate reads what evaluate was asked for
    return evaluator


def _match(values: Sequence[Any], thresholds: int) -> dict[str, Any]:
    scores, matches, ignored, ignored_truth = values
    shape = (thresholds, len(scores))
    return {
        "dtScores": scores,
        "dtMatches": np.array(matches, np.float64).reshape(shape),
        "dtIgnore": np.array(ignored, bool).reshape(shape),
        "gtIgnore": np.array(ignored_truth, np.int64),
    }
