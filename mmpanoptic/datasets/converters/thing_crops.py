"""An image classification set from the things of a panoptic set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from mmpanoptic.datasets.panoptic_json import read_categories
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image
from mmpanoptic.utils.jobs import is_whole, run, write_file


def cut_things(
    json_file: Path, images: Path, out: Path, margin: float, min_side: int, nproc: int
) -> list[str]:
    """Cut every thing out of its image: ``out/<class>/<image>_<segment>.png``.

    The window is the segment's box, made square and larger by a margin on every side, as far as
    the image goes. Crowds are left out. Files that are there stay.

    Args:
        json_file (Path): COCO-panoptic JSON, whose segments have ``bbox``.
        images (Path): Folder of the images.
        out (Path): Receives one folder per thing class, empty ones too.
        margin (float): Share of the box's longer side that is added on every side.
        min_side (int): Things whose longer side is shorter are left out, pixels.
        nproc (int): Number of processes.

    Returns:
        list[str]: What was done.

    Raises:
        ValueError: If the margin is negative, or a segment has no box.
    """
    if margin < 0:
        raise ValueError(f"the margin must not be negative, got {margin}")
    content = load_json_object(str(json_file))
    table = read_categories(content["categories"], str(json_file))
    for label in table:
        if label.isthing:
            (out / label.name).mkdir(parents=True, exist_ok=True)
    files = {image["id"]: image["file_name"] for image in content["images"]}
    jobs = [
        _Job(images / files[entry["image_id"]], _windows(entry, table, margin, min_side), out)
        for entry in content["annotations"]
    ]
    counts = list(run(_cut, jobs, nproc))
    return [f"{out}: {sum(counts)} things of {len(jobs)} images"]


class _Job:
    """One image and the windows to cut out of it: class, file name, x0, y0, x1, y1."""

    def __init__(self, image: Path, windows: list[tuple[str, str, list[int]]], out: Path) -> None:
        self.image, self.windows, self.out = image, windows, out


def _windows(
    entry: Mapping[str, Any], table: LabelTable, margin: float, min_side: int
) -> list[tuple[str, str, list[int]]]:
    found = []
    for segment in entry["segments_info"]:
        label = table.by_dataset_id(segment["category_id"])
        if not label.isthing or segment.get("iscrowd"):
            continue
        if "bbox" not in segment:
            raise ValueError(f"a segment of image {entry['image_id']!r} has no bbox")
        x, y, width, height = segment["bbox"]
        side = max(width, height)
        if side < min_side:
            continue
        half = side * (0.5 + margin)
        x_mid, y_mid = x + width / 2, y + height / 2
        box = [round(v) for v in (x_mid - half, y_mid - half, x_mid + half, y_mid + half)]
        name = f"{Path(entry['file_name']).stem}_{segment['id']}.png"
        found.append((label.name, name, box))
    return found


def _cut(job: _Job) -> int:
    missing = [w for w in job.windows if not is_whole(job.out / w[0] / w[1])]
    if not missing:
        return len(job.windows)
    try:
        image = decode_image(Path(job.image).read_bytes())
    except ImageDamageError as error:
        raise ValueError(f"{job.image}: {error}") from error
    for folder, name, (x0, y0, x1, y1) in missing:
        window = image[max(y0, 0) : y1, max(x0, 0) : x1]
        write_file(job.out / folder / name, cv2.imencode(".png", window)[1].tobytes())
    return len(job.windows)
