"""COCO's box and mask AP: pycocotools or faster-coco-eval behind one function.

Both give equal numbers (to 1e-15); faster-coco-eval is several times faster and optional.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from .tables import render_table

BACKENDS = ("pycocotools", "faster-coco-eval")
"""Programs that can compute AP."""

IOU_TYPES = ("bbox", "segm")

STATISTICS = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)
"""Names of the twelve numbers, in COCO's order."""

_MAX_NAMED = 10


@dataclass(frozen=True)
class CocoScores:
    """AP of one kind, as fractions; nan where there is no ground truth.

    Attributes:
        statistics (dict[str, float]): By the names of :data:`STATISTICS`.
        per_category (dict[int, dict[str, float]]): ``AP``, ``AP50`` and ``AR100`` by category id.
    """

    statistics: dict[str, float]
    per_category: dict[int, dict[str, float]]


def load_backend(name: str) -> tuple[Any, Any]:
    """Import the classes of a backend.

    Args:
        name (str): One of :data:`BACKENDS`.

    Returns:
        tuple: The classes that hold annotations and that evaluate.

    Raises:
        ValueError: If there is no such backend.
        ImportError: If its package is not installed.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    try:
        if name == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval

            return COCO, COCOeval
        import faster_coco_eval
    except ImportError as error:
        raise ImportError(
            f"backend {name!r} needs a package that is absent ({error}); run: pip install {name}, "
            "or take backend 'pycocotools'"
        ) from error
    return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster


def evaluate_coco_ap(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: str,
    backend: str = "pycocotools",
    image_ids: Sequence[Any] | None = None,
) -> CocoScores:
    """Compute AP.

    Args:
        truth (Mapping): Content of an ``instances_*.json``.
        detections (Sequence[Mapping]): Content of a COCO result file: ``image_id``,
            ``category_id``, ``score`` and ``bbox`` (x, y, w, h) or ``segmentation`` (RLE).
        iou_type (str): ``bbox`` or ``segm``. Of ``segm`` the mask's area decides what is small.
        backend (str): One of :data:`BACKENDS`.
        image_ids (Sequence | None): Images to evaluate; None takes all of the ground truth.

    Returns:
        CocoScores: Fractions.

    Raises:
        ValueError: If a file breaks COCO's format; the message says where.
    """
    annotations_class, evaluator_class = load_backend(backend)
    check_truth(truth)
    check_detections(truth, detections, iou_type)
    with redirect_stdout(io.StringIO()):  # both backends print their progress
        ground_truth = _build(annotations_class, _with_valid_ids(truth))
        evaluator = evaluator_class(
            ground_truth, _build_results(ground_truth, detections, iou_type), iou_type
        )
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = (_nan_if_absent(value) for value in np.asarray(evaluator.stats)[: len(STATISTICS)])
    return CocoScores(
        dict(zip(STATISTICS, values, strict=True)),
        _per_category(evaluator.eval, evaluator.params.catIds),
    )


def check_truth(truth: Any) -> None:
    """Refuse what is no COCO instance annotation.

    Raises:
        ValueError: If a field is missing.
    """
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(truth, Mapping) or key not in truth
    ]
    if missing:
        raise ValueError(f"the ground truth lacks {', '.join(missing)}; give an instances_*.json")
    for index, annotation in enumerate(truth["annotations"]):
        if "segments_info" in annotation:
            raise ValueError(
                "the ground truth is a panoptic JSON; AP needs an instances_*.json, which "
                "tools/dataset_converters/coco_panoptic2instances.py makes from it"
            )
        fields = ("image_id", "category_id", "bbox", "area")
        absent = [key for key in fields if key not in annotation]
        if absent:
            raise ValueError(f"annotations[{index}] of the ground truth lacks {', '.join(absent)}")


def check_detections(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], iou_type: str
) -> None:
    """Refuse detections that do not fit the ground truth.

    Args:
        truth (Mapping): Content of an ``instances_*.json``.
        detections (Sequence[Mapping]): Content of a result file.
        iou_type (str): ``bbox`` or ``segm``.

    Raises:
        ValueError: If a field is missing, or an image or category is not in the ground truth.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"unknown kind of AP {iou_type!r}; known: {', '.join(IOU_TYPES)}")
    if not isinstance(detections, Sequence):
        raise ValueError("a COCO result file is a list of detections, not an object")
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    for index, detection in enumerate(detections):
        fields = ("image_id", "category_id", "score", shape)
        absent = [key for key in fields if key not in detection]
        if absent:
            raise ValueError(f"detection {index} lacks {', '.join(absent)}")
        if iou_type == "segm" and not isinstance(detection[shape], Mapping):
            raise ValueError(
                f"detection {index}: segmentation must be a run-length mask with size and counts"
            )
    for key, field in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in truth[field]}
        used = {detection[key] for detection in detections}
        unknown = sorted(map(repr, used - known))
        if unknown:
            raise ValueError(
                f"the detections hold {len(unknown)} values of {key} that are not in the ground "
                f"truth's {field}: {', '.join(unknown[:_MAX_NAMED])}; write the dataset's ids, "
                "with their type, not contiguous numbers"
            )


def _with_valid_ids(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Number the annotations from 1, since the evaluators read id 0 as "no match"."""
    ids = [annotation.get("id") for annotation in truth["annotations"]]
    if 0 in ids:
        warnings.warn(
            "the ground truth uses annotation id 0, which other programs count as not found; "
            "the annotations are numbered from 1 here",
            stacklevel=3,
        )
    numbered = [
        {"iscrowd": 0, **annotation, "id": number}
        for number, annotation in enumerate(truth["annotations"], 1)
    ]
    return {**truth, "annotations": numbered}


def _build(annotations_class: Any, content: Mapping[str, Any]) -> Any:
    built = annotations_class()
    built.dataset = dict(content)
    built.createIndex()
    return built


def _build_results(
    ground_truth: Any, detections: Sequence[Mapping[str, Any]], iou_type: str
) -> Any:
    if not detections:  # loadRes looks at the first one
        content = {**ground_truth.dataset, "annotations": []}
        return _build(type(ground_truth), content)
    # With a box in the detection its area would be the box's, also for masks.
    dropped = "bbox" if iou_type == "segm" else "segmentation"
    return ground_truth.loadRes(
        [{k: v for k, v in detection.items() if k != dropped} for detection in detections]
    )


def _nan_if_absent(value: float) -> float:
    return float("nan") if value == -1 else float(value)


def _per_category(
    accumulated: Mapping[str, Any], category_ids: Sequence[int]
) -> dict[int, dict[str, float]]:
    """Read AP per category off the arrays of an evaluator.

    Args:
        accumulated (Mapping): ``precision`` ``(T, R, K, A, M)`` and ``recall`` ``(T, K, A, M)``
            over thresholds, recalls, categories, areas (all first) and limits (largest last).
        category_ids (Sequence[int]): K ids.
    """
    precision = np.asarray(accumulated["precision"])[:, :, :, 0, -1]
    recall = np.asarray(accumulated["recall"])[:, :, 0, -1]
    return {
        category_id: {
            "AP": _mean_present(precision[:, :, k]),
            "AP50": _mean_present(precision[0, :, k]),
            "AR100": _mean_present(recall[:, k]),
        }
        for k, category_id in enumerate(category_ids)
    }


def _mean_present(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else float("nan")


def coco_table(scores: CocoScores, names: Mapping[int, str], iou_type: str) -> str:
    """Draw AP per category, in percent, and the twelve numbers."""
    rows: list[list[object]] = [
        [names.get(key, str(key)), *(100 * values[k] for k in ("AP", "AP50", "AR100"))]
        for key, values in scores.per_category.items()
    ]
    rows.append(["mean", *(100 * scores.statistics[k] for k in ("AP", "AP50", "AR100"))])
    title = f"COCO {'box' if iou_type == 'bbox' else 'mask'} AP"
    classes = render_table(title, ["category", "AP", "AP50", "AR100"], rows)
    numbers = [100 * value for value in scores.statistics.values()]
    return classes + "\n" + render_table("", [*STATISTICS], [numbers])
