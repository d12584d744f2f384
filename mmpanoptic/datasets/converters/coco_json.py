"""Conversions of COCO JSON files alone: contiguous category ids and the search split."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.datasets.panoptic_json import PanopticJson, read_categories
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.coco_file import InstanceJson, load_json, load_json_object
from mmpanoptic.utils.files import refuse_overwriting
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError


def to_contiguous_ids(path: Path) -> dict[str, Any]:
    """Replace category ids by positions in the category list.

    Args:
        path: A panoptic JSON.

    Returns:
        dict: Its content with ``category_id`` and ``categories[].id`` replaced.

    Raises:
        PanopticFormatError: Listing all unknown categories and missing fields.
    """
    content = load_json_object(path)
    table = read_categories(content.get("categories"), str(path))
    PanopticJson(content, path, table, fill_missing=True).records()
    for category, label in zip(content["categories"], table, strict=True):
        category["id"] = label.index
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] = table.by_dataset_id(segment["category_id"]).index
    return content


def choose_images(image_ids: Collection[Any], count: int, seed: int) -> list[Any]:
    """Choose images at random, the same ones on every machine and with every library version.

    The images are put in the order of the SHA-256 of ``"<seed>:<id>"``; the first ones are taken.

    Args:
        image_ids: To choose from.
        count: How many.
        seed: Any whole number.

    Returns:
        list: Chosen ids, sorted.

    Raises:
        ValueError: If there are not more images than ``count``, or it is less than 1.
    """
    if not 0 < count < len(image_ids):
        raise ValueError(
            f"cannot take {count} of {len(image_ids)} images: both parts must have at least one"
        )

    def rank(image_id: Any) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}:{image_id}".encode()).digest(), str(image_id)

    return sorted(sorted(image_ids, key=rank)[:count])


def read_image_ids(path: Path, known: Collection[Any]) -> list[Any]:
    """Read image ids from a JSON list, a COCO JSON or a text file with one id per line.

    Args:
        path: The file.
        known: Ids of the set.

    Returns:
        list: Sorted ids.

    Raises:
        ValueError: If an id is not one of the set.
    """
    if path.suffix == ".json":
        content = load_json(path)
        listed = content.get("images") if isinstance(content, dict) else content
        entries = listed if isinstance(listed, list) else [None]
        ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in entries]
        if not all(type(image_id) in (int, str) for image_id in ids):
            raise ValueError(
                f"{path} must hold a list of image ids (whole numbers or text), or images with ids"
            )
    else:
        by_text = {str(image_id): image_id for image_id in known}
        words = path.read_text(encoding="utf-8-sig").split()
        ids = [by_text.get(word.lstrip("0") or "0", by_text.get(word, word)) for word in words]
    unknown = [image_id for image_id in ids if image_id not in set(known)]
    if unknown:
        raise ValueError(
            f"{path} names {len(unknown)} images that are not in the set, such as {unknown[0]!r}"
        )
    return sorted(set(ids))


def filter_images(content: Mapping[str, Any], keep: Collection[Any]) -> dict[str, Any]:
    """Keep the images of the given ids and their annotations; everything else stays."""
    chosen = set(keep)
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in chosen],
    }


def make_nas_split(
    instances: Path, panoptic: Path, out: Path, chosen: Sequence[Any] | None, count: int, seed: int
) -> list[Path]:
    """Split a training set for architecture search, as Auto-Panoptic does.

    Writes ``instances_nas_val2017.json`` (the chosen images), ``instances_nas_train2017.json``
    (the rest) and the same two parts of the panoptic JSON. Images and PNGs stay where they are. The
    published split has no seed and cannot be made again; pass its ids if you have them.

    Args:
        instances: ``instances_train2017.json``.
        panoptic: ``panoptic_train2017.json``.
        out: Folder, usually ``nas``.
        chosen: Ids of the validation part; None chooses ``count`` of them.
        count: Size of the validation part.
        seed: For :func:`choose_images`.

    Returns:
        list[Path]: The files.

    Raises:
        PanopticFormatError: If the panoptic JSON lacks chosen images.
    """
    reader = InstanceJson(load_json_object(instances), instances, masks=False)
    reader.annotations()
    content, ids = reader.content, [key[1] for key in reader.image_index]
    chosen = choose_images(ids, count, seed) if chosen is None else chosen
    panoptic_content = load_json_object(panoptic)
    table = read_categories(panoptic_content.get("categories"), str(panoptic), drop_colors=True)
    records = PanopticJson(panoptic_content, panoptic, table, fill_missing=True).records()
    annotated = {record["img_id"] for record in records}
    lacking = [image_id for image_id in chosen if image_id not in annotated]
    if lacking:
        detail = "the panoptic JSON has no annotation of the image"
        raise PanopticFormatError(
            [FormatProblem("missing_image", detail, str(panoptic), i) for i in lacking]
        )
    rest = set(ids) - set(chosen)
    parts = {
        "instances_nas_val2017.json": filter_images(content, chosen),
        "instances_nas_train2017.json": filter_images(content, rest),
        "panoptic_nas_val2017.json": filter_images(panoptic_content, chosen),
        "panoptic_nas_train2017.json": filter_images(panoptic_content, rest),
    }
    paths: list[Path] = []
    refuse_overwriting([instances, panoptic], [out / name for name in parts])
    for name, part in parts.items():
        write_if_changed(out / name, part)
        paths.append(out / name)
    return paths


def write_if_changed(path: Path, content: Mapping[str, Any]) -> bool:
    """Write a JSON file unless it says that already.

    Returns:
        bool: Whether it was written.
    """
    if path.exists() and read_json(path) == content:
        return False
    write_json(path, content)
    return True
