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

from mmpanoptic.utils.coco_file import (
    CocoFile,
    InstanceJson,
    describe_unknown,
    is_box,
    is_number,
    key_of,
    place_of,
)
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.segmentations import check_segmentation

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
    files: tuple[str, str] = ("the ground truth", "the detections"),
    checked: bool = False,
) -> CocoScores:
    """Compute AP.

    Args:
        truth (Mapping): Content of an ``instances_*.json``.
        detections (Sequence[Mapping]): Content of a COCO result file: ``image_id``,
            ``category_id``, ``score`` and ``bbox`` (x, y, w, h) or ``segmentation`` (RLE).
        iou_type (str): ``bbox`` or ``segm``. Of ``segm`` the mask's area decides what is small.
        backend (str): One of :data:`BACKENDS`.
        image_ids (Sequence | None): Images to evaluate; None takes all of the ground truth.
        files (tuple[str, str]): What messages call the two.
        checked (bool): Both went through :func:`check_truth` and :func:`check_detections`.

    Returns:
        CocoScores: Fractions.

    Raises:
        PanopticFormatError: Listing all problems of a file.
        ValueError: If kind or backend are unknown.
    """
    load_backend(backend)
    if iou_type not in IOU_TYPES:
        raise ValueError(f"unknown kind of AP {iou_type!r}; known: {', '.join(IOU_TYPES)}")
    if not checked:
        truth = check_truth(truth, [iou_type], files[0])
        check_detections(truth, detections, iou_type, files[1])
    return score_matches(match_detections(truth, detections, iou_type, backend, image_ids))


def match_detections(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: str,
    backend: str = BACKENDS[0],
    image_ids: Sequence[Any] | None = None,
) -> Any:
    """Match the detections of each image with the ground truth; the arguments went through checks.

    Args:
        truth (Mapping): From :func:`check_truth`.
        detections (Sequence[Mapping]): They went through :func:`check_detections`.
        iou_type (str): ``bbox`` or ``segm``.
        backend (str): One of :data:`BACKENDS`.
        image_ids (Sequence | None): Images to evaluate; None takes all of the ground truth.

    Returns:
        The backend's evaluator, whose ``evaluate`` has run.
    """
    annotations_class, evaluator_class = load_backend(backend)
    with redirect_stdout(io.StringIO()):  # both backends print their progress
        ground_truth = _build(annotations_class, _with_valid_ids(truth))
        evaluator = evaluator_class(
            ground_truth, _build_results(ground_truth, detections, iou_type), iou_type
        )
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
    return evaluator


def score_matches(evaluator: Any) -> CocoScores:
    """Add the matches of all images.

    Args:
        evaluator: From :func:`match_detections`.

    Returns:
        CocoScores: Fractions.
    """
    with redirect_stdout(io.StringIO()):
        evaluator.accumulate()
        evaluator.summarize()
    values = (_nan_if_absent(value) for value in np.asarray(evaluator.stats)[: len(STATISTICS)])
    return CocoScores(
        dict(zip(STATISTICS, values, strict=True)),
        _per_category(evaluator.eval, evaluator.params.catIds),
    )


def check_truth(
    truth: Any, iou_types: Sequence[str] = IOU_TYPES, file: str = "the ground truth"
) -> dict[str, Any]:
    """Check a COCO instance annotation, with the reader that training and converters use.

    Args:
        truth: Content of an ``instances_*.json``.
        iou_types: What will be computed; masks are due for ``segm`` alone.
        file: What messages call it.

    Returns:
        dict: The content, with segmentations in COCO's own form.

    Raises:
        PanopticFormatError: Listing all problems.
    """
    if not isinstance(truth, Mapping):
        detail = f"the ground truth must be an object, got {type(truth).__name__}"
        raise format_error("bad_field", detail, file)
    entries = truth.get("annotations")
    if isinstance(entries, list) and any(
        isinstance(e, dict) and "segments_info" in e for e in entries
    ):
        detail = (
            "the ground truth is a panoptic JSON; AP needs an instances_*.json, which "
            "tools/dataset_converters/coco_panoptic2instances.py makes from it"
        )
        raise format_error("bad_field", detail, file)
    reader = InstanceJson(truth, file, masks="segm" in iou_types)
    annotations = []
    for annotation in reader.parse():
        place = place_of("annotations", annotation.pop("position"), annotation)
        _check_values(reader, annotation, place, ("bbox", "area"))
        annotations.append(annotation)
    reader.raise_problems()
    return {**truth, "annotations": annotations}


def check_detections(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: str,
    file: str = "the detections",
) -> None:
    """Check detections against the ground truth.

    Args:
        truth (Mapping): From :func:`check_truth`.
        detections (Sequence[Mapping]): Content of a result file.
        iou_type (str): ``bbox`` or ``segm``.
        file: What messages call it.

    Raises:
        PanopticFormatError: Listing all problems.
    """
    if not isinstance(detections, list | tuple):
        detail = f"a COCO result file is a list of detections, not {type(detections).__name__}"
        raise format_error("bad_field", detail, file)
    reader = CocoFile({}, file)
    images = {key_of(image["id"]): image for image in truth["images"]}
    categories = {key_of(category["id"]): category for category in truth["categories"]}
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    for position, detection in enumerate(detections):
        place = f"detection {position}"
        if not reader.has_fields(detection, ("image_id", "category_id", "score", shape), place):
            continue
        image_id, category = detection["image_id"], detection["category_id"]
        image = images.get(key_of(image_id))
        if image is None:
            detail = describe_unknown(
                image_id, images, f"{place}.image_id", "ground truth's images"
            )
            reader.add("missing_image", detail)
        if key_of(category) not in categories:
            what = f"{place}.category_id"
            detail = describe_unknown(category, categories, what, "ground truth's categories")
            reader.add("unknown_category", detail)
        fields = ("score", "bbox") if iou_type == "bbox" else ("score",)
        _check_values(reader, detection, place, fields)
        if iou_type == "segm" and image is not None:
            _check_code(reader, detection["segmentation"], place, image)
    reader.raise_problems()


def _check_values(
    reader: CocoFile, entry: Mapping[str, Any], place: str, fields: Sequence[str]
) -> None:
    """Check numbers and boxes."""
    for field in fields:
        if field not in entry:
            reader.add("missing_field", f"{place} lacks {field}", entry.get("image_id"))
            continue
        value = entry[field]
        if not (is_box(value) if field == "bbox" else is_number(value)):
            allowed = "[x, y, width, height], numbers" if field == "bbox" else "a finite number"
            detail = f"{place}.{field} must be {allowed}, got {value!r}"
            reader.add("bad_field", detail, entry.get("image_id"))


def _check_code(reader: CocoFile, code: Any, place: str, image: Mapping[str, Any]) -> None:
    """Check the mask of a detection; the backends take text counts alone."""
    if not isinstance(code, Mapping) or isinstance(code.get("counts"), list):
        found = "uncompressed counts (a list)" if isinstance(code, Mapping) else "polygons"
        detail = (
            f"{place}: segmentation must be a run-length mask with size and counts as text, as "
            f"pycocotools.mask.encode writes it, got {found}"
        )
        reader.add("bad_segmentation", detail, image["id"])
        return
    try:
        check_segmentation(code, image["height"], image["width"])
    except ValueError as error:
        reader.add("bad_segmentation", f"{place}.segmentation {error}", image["id"])


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
