"""Reading of COCO ``instances_*.json`` files that accompany a panoptic annotation.

Instance annotations may overlap and reach behind other objects (amodal masks), which a panoptic
map cannot express.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError

_REQUIRED = ("id", "image_id", "category_id", "segmentation")
_CONVERTED = (*_REQUIRED, "bbox", "iscrowd")


def read_instances(
    content: Mapping[str, Any], file: str, table: LabelTable
) -> dict[Any, list[dict[str, Any]]]:
    """Group the instances of a COCO instance JSON by image.

    Args:
        content (Mapping): The parsed file.
        file (str): Its path, for messages.
        table (LabelTable): Classes of the panoptic dataset.

    Returns:
        dict: By ``image_id``, in file order: a list of ``dict(id, label, iscrowd, mask, ...)``.
        ``mask`` is the JSON's ``segmentation`` (polygons or RLE); further fields of the JSON
        (``area``, occlusion relations, ...) are kept as they are.

    Raises:
        PanopticFormatError: Listing all problems of the file.
    """
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        detail = "the file has no list 'annotations'"
        raise PanopticFormatError([FormatProblem("missing_field", detail, file)])
    problems = _compare_names(content.get("categories", []), file, table)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for position, annotation in enumerate(annotations):
        problem = _find_problem(annotation, f"annotations[{position}]", table)
        if problem is not None:
            image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
            problems.append(FormatProblem(*problem, file, image_id))
            continue
        extra = {key: value for key, value in annotation.items() if key not in _CONVERTED}
        instance = {
            "id": annotation["id"],
            "label": table.by_dataset_id(annotation["category_id"]).index,
            "iscrowd": int(annotation.get("iscrowd", 0)),
            "mask": annotation["segmentation"],
            **extra,
        }
        by_image.setdefault(annotation["image_id"], []).append(instance)
    if problems:
        raise PanopticFormatError(problems)
    return by_image


def _compare_names(categories: Any, file: str, table: LabelTable) -> list[FormatProblem]:
    """Find categories that mean something else here than in the panoptic dataset."""
    problems = []
    for category in categories:
        number, name = category.get("id"), category.get("name")
        if table.has_dataset_id(number) and table.by_dataset_id(number).name != name:
            detail = f"category {number} is {name} here, but {table.by_dataset_id(number).name} in "
            detail += "the panoptic annotation"
            problems.append(FormatProblem("category_mismatch", detail, file))
    return problems


def _find_problem(annotation: Any, what: str, table: LabelTable) -> tuple[str, str] | None:
    """Return kind and detail of the first problem of an instance."""
    if not isinstance(annotation, Mapping):
        return "bad_field", f"{what} must be an object, got {annotation!r}"
    missing = [field for field in _REQUIRED if field not in annotation]
    if missing:
        return "missing_field", f"{what} lacks {', '.join(missing)}"
    category = annotation["category_id"]
    if not table.has_dataset_id(category):
        return "unknown_category", f"{what}.category_id {category!r} is unknown"
    if not table.by_dataset_id(category).isthing:
        return "category_mismatch", f"{what}.category_id {category!r} is stuff, not a thing"
    mask = annotation["segmentation"]
    if not isinstance(mask, list) and not (isinstance(mask, Mapping) and "counts" in mask):
        return "bad_field", f"{what}.segmentation must be polygons or a run-length code"
    return None
