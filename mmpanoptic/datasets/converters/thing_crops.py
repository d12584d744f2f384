"""An image classification set from the things of a panoptic set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2

from mmpanoptic.datasets.panoptic_json import PanopticJson, read_categories
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.files import is_file_name
from mmpanoptic.utils.jobs import write_file

from .incremental import Job, convert_files
from .own_data import refuse_output


class _Window(NamedTuple):
    """What is cut out: a class, and ``(x0, y0, x1, y1)`` in the image."""

    file: Path
    box: tuple[int, int, int, int]


def cut_things(
    json_file: Path, images: Path, out: Path, margin: float, min_side: int, nproc: int
) -> list[str]:
    """Cut every thing out of its image: ``out/<class>/<image>_<segment>.png``.

    The window is the segment's box, made square and larger by a margin on every side, as far as
    the image goes. Crowds are left out. The ``/`` of images in sub-folders become ``_``.

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
        PanopticFormatError: With the problems of the JSON, or of all images.
        ValueError: If the margin is negative, a class name is no folder name, or two images would
            get the same files.
    """
    if margin < 0:
        raise ValueError(f"the margin must not be negative, got {margin}")
    refuse_output(out, images)
    content = load_json_object(json_file)
    table = read_categories(content.get("categories"), str(json_file), drop_colors=True)
    reader = PanopticJson(content, json_file, table, fill_missing=True)
    records = reader.parse()
    left_out: Counter[str] = Counter()
    jobs = []
    for record in records:
        windows = list(_windows(reader, record, margin, min_side, out, left_out))
        sources = (images / record["img_file"], json_file)
        files = tuple(window.file for window in windows)
        jobs.append(Job(record["seg_file"], sources, files, (record, windows)))
    reader.raise_problems()
    _make_folders(table, out)
    _refuse_equal_names(jobs)
    options = {"margin": margin, "min_side": min_side, "images": str(images)}
    summary = convert_files(_cut, jobs, "crops", out, nproc, options)
    things = sum(len(job.outputs) for job in jobs)
    lost = "".join(f", {count} {reason} left out" for reason, count in left_out.items())
    return [f"{out}: {things} things of {summary.total} images{lost}"]


def _windows(
    reader: PanopticJson,
    record: Mapping[str, Any],
    margin: float,
    min_side: int,
    out: Path,
    left_out: Counter[str],
) -> Iterator[_Window]:
    """Yield the windows of an image; segments without a usable box are problems of the reader."""
    image = "_".join(PurePosixPath(record["img_file"]).with_suffix("").parts)
    for segment in record["segments_info"]:
        if not segment["isthing"]:
            continue
        if segment["iscrowd"]:
            left_out["crowds"] += 1
            continue
        number, image_id = segment["id"], record["img_id"]
        if "bbox" not in segment:
            reader.add("missing_field", f"the segment {number} has no bbox", image_id, [number])
            continue
        x, y, width, height = segment["bbox"]
        if max(width, height) < min_side:
            left_out[f"with less than {min_side} pixels"] += 1
            continue
        half = max(width, height) * (0.5 + margin)
        (x0, x1), (y0, y1) = (
            (max(round(middle - half), 0), min(round(middle + half), size))
            for middle, size in (
                (x + width / 2, record["width"]),
                (y + height / 2, record["height"]),
            )
        )
        if x0 >= x1 or y0 >= y1:
            detail = f"the segment {number} has the bbox {segment['bbox']} outside of its image"
            reader.add("bad_field", detail, image_id, [number])
            continue
        folder = out / reader.table[segment["label"]].name
        yield _Window(folder / f"{image}_{number}.png", (x0, y0, x1, y1))


def _make_folders(table: LabelTable, out: Path) -> None:
    """Make a folder for every thing class."""
    for label in table:
        name = label.name
        if label.isthing and (not is_file_name(name) or PurePosixPath(name).name != name):
            raise ValueError(f"the class {name!r} cannot name a folder; give it another name")
    for label in table:
        if label.isthing:
            (out / label.name).mkdir(parents=True, exist_ok=True)


def _refuse_equal_names(jobs: list[Job]) -> None:
    seen: dict[Path, Path] = {}
    for job in jobs:
        for output in job.outputs:
            other = seen.setdefault(output, job.sources[0])
            if other != job.sources[0]:
                raise ValueError(
                    f"{other} and {job.sources[0]} would both be cut into {output}; rename one"
                )


def _cut(job: Job) -> None:
    from mmpanoptic.datasets.transforms import LoadImage  # imports torch

    record, windows = job.data
    sample = {"img_path": str(job.sources[0]), "img_id": record["img_id"]}
    sample |= {"height": record["height"], "width": record["width"]}
    image = LoadImage().transform(sample)["img"]
    for window in windows:
        x0, y0, x1, y1 = window.box
        write_file(window.file, cv2.imencode(".png", image[y0:y1, x0:x1])[1].tobytes())
