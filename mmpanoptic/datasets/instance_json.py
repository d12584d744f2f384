"""Reading of COCO ``instances_*.json`` files that accompany a panoptic annotation.

Instance annotations may overlap and reach behind other objects (amodal masks), which a panoptic
map cannot express.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import InstanceJson, place_of

_CONVERTED = ("id", "image_id", "category_id", "segmentation", "bbox", "iscrowd", "position")


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
        ``mask`` is the JSON's ``segmentation`` (polygons or RLE), checked; further fields of the
        JSON (``area``, occlusion relations, ...) are kept as they are.

    Raises:
        PanopticFormatError: Listing all problems of the file.
    """
    reader = InstanceJson(content, file)
    annotations = reader.parse()
    _compare_names(reader, table)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in annotations:
        category, image_id = annotation["category_id"], annotation["image_id"]
        if not table.has_dataset_id(category) or not table.by_dataset_id(category).isthing:
            _refuse_category(reader, annotation, table)
            continue
        extra = {key: value for key, value in annotation.items() if key not in _CONVERTED}
        instance = {
            "id": annotation["id"],
            "label": table.by_dataset_id(category).index,
            "iscrowd": annotation["iscrowd"],
            "mask": annotation["segmentation"],
            **extra,
        }
        by_image.setdefault(image_id, []).append(instance)
    reader.raise_problems()
    return by_image


def _compare_names(reader: InstanceJson, table: LabelTable) -> None:
    """Note categories that mean something else here than in the panoptic dataset."""
    for (_, number), name in reader.names.items():
        if table.has_dataset_id(number) and table.by_dataset_id(number).name != name:
            detail = f"category {number} is {name} here, but {table.by_dataset_id(number).name} in "
            reader.add("category_mismatch", f"{detail}the panoptic annotation")


def _refuse_category(
    reader: InstanceJson, annotation: Mapping[str, Any], table: LabelTable
) -> None:
    category, image_id = annotation["category_id"], annotation["image_id"]
    place = place_of("annotations", annotation["position"], annotation)
    if table.has_dataset_id(category):
        detail = f"{place}.category_id {category!r} is stuff, not a thing"
        reader.add("category_mismatch", detail, image_id)
    else:
        detail = f"{place}.category_id {category!r} is not in the panoptic annotation"
        reader.add("unknown_category", detail, image_id)
