"""Panoptic quality as tables."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.utils import atomic_write, write_json

from .panoptic_quality import Categories, ImageMatch, PanopticQuality, accumulate, summarize
from .tables import render_table

_GROUPS = {"All": "", "Things": "_th", "Stuff": "_st"}
METRIC_NAMES = [key + suffix for suffix in _GROUPS.values() for key in ("PQ", "SQ", "RQ")]
"""What :func:`metric_values` names."""


def metric_values(quality: PanopticQuality) -> dict[str, float]:
    """Name the averages as mmdet does: ``PQ``, ``SQ``, ``RQ``, ``PQ_th``, ..., in percent."""
    return {
        key.upper() + suffix: 100 * quality.averages[group][key]
        for group, suffix in _GROUPS.items()
        for key in ("pq", "sq", "rq")
    }


def group_table(quality: PanopticQuality) -> str:
    """Draw the averages over all, thing and stuff classes, in percent."""
    rows = [
        [group, *(100 * values[key] for key in ("pq", "sq", "rq")), int(values["n"])]
        for group, values in quality.averages.items()
    ]
    return render_table("Panoptic quality", ["", "PQ", "SQ", "RQ", "classes"], rows)


def class_table(quality: PanopticQuality, categories: Categories) -> str:
    """Draw the values of each class, in percent, and its counts; a dash where it never occurs."""
    rows: list[list[object]] = []
    for position, (key, values) in enumerate(quality.per_class.items()):
        name = categories.names[position]
        counts = quality.per_category_stats.get(key)
        kind = "thing" if categories.isthing[position] else "stuff"
        if counts is None:
            rows.append([name, kind, None, None, None, 0, 0, 0])
            continue
        percent = [100 * values[part] for part in ("pq", "sq", "rq")]
        rows.append([name, kind, *percent, *(counts[part] for part in ("tp", "fp", "fn"))])
    header = ["class", "kind", "PQ", "SQ", "RQ", "TP", "FP", "FN"]
    return render_table("Panoptic quality by class", header, rows)


def describe_image(
    match: ImageMatch, categories: Categories, image_id: Any, file_name: str
) -> dict[str, Any]:
    """Evaluate one image.

    Args:
        match (ImageMatch): Its matched segments.
        categories (Categories): Of the dataset.
        image_id: Of the image.
        file_name (str): Of its annotation.

    Returns:
        dict: ``image_id``, ``file_name``, ``pq``, ``sq``, ``rq``, ``n`` (averages inside the image,
        over ``n`` classes) and ``stats`` (sums per category id).
    """
    own = summarize(accumulate([match], len(categories.ids)), categories)
    averages, stats = own.averages["All"], own.per_category_stats
    return {"image_id": image_id, "file_name": file_name, **averages, "stats": stats}


def write_per_image(path: str | os.PathLike[str], images: Sequence[Mapping[str, Any]]) -> None:
    """Write one row per image: PQ, SQ, RQ, number of classes, and counts over all classes.

    Args:
        path: ``.json`` or ``.csv``.
        images (Sequence[Mapping]): From :func:`describe_image`.
    """
    rows = []
    for image in images:
        stats = image["stats"].values()
        counts = {key: sum(part[key] for part in stats) for key in ("tp", "fp", "fn")}
        kept = {name: _or_none(value) for name, value in image.items() if name != "stats"}
        rows.append({**kept, **counts})
    if Path(path).suffix == ".json":
        write_json(path, rows, indent=1)
        return
    text = io.StringIO()
    names = ["image_id", "file_name", "pq", "sq", "rq", "n", "tp", "fp", "fn"]
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def worst_table(per_image: Sequence[Mapping[str, Any]], count: int) -> str:
    """Draw the images with the lowest PQ, worst first; images without any segment are left out."""
    ranked = sorted((image for image in per_image if image["n"]), key=lambda image: image["pq"])
    rows = [
        [image["file_name"], str(image["image_id"]), *(100 * image[k] for k in ("pq", "sq", "rq"))]
        for image in ranked[:count]
    ]
    return render_table("Worst images", ["file", "image_id", "PQ", "SQ", "RQ"], rows)
