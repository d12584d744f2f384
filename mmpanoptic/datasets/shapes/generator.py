"""Write the shapes dataset: images, panoptic PNGs and JSONs, resumable, in parallel."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.structures import find_runs, segment_statistics
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.jobs import is_whole, remove_parts, run, write_file
from mmpanoptic.utils.locks import exclusive_folder
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .catalog import SHAPES_TABLE
from .scene import Scene, draw_scene

GENERATOR_VERSION = 1
"""Grows with every change of the drawing: old and new images must not mix in one folder."""

SPLITS = ("train", "val")
MIN_SIDE, MAX_SIDE = 32, 8192
_JPEG_QUALITY = 95
_RECORDS = ".records"


@dataclass(frozen=True)
class ShapesSettings:
    """What decides the content of the images.

    Attributes:
        width (int): Width in pixels.
        height (int): Height in pixels.
        seed (int): Not negative.

    Raises:
        ValueError: If a value is out of range.
    """

    width: int = 192
    height: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if not MIN_SIDE <= getattr(self, name) <= MAX_SIDE:
                raise ValueError(
                    f"{name} must lie in [{MIN_SIDE}, {MAX_SIDE}] pixels, got {getattr(self, name)}"
                )
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


@dataclass(frozen=True)
class SplitReport:
    """What was done for one split.

    Attributes:
        split (str): Name of the split.
        images (int): Images in the split.
        drawn (int): Images that were drawn now; the others lay there already.
        annotation (Path): The panoptic JSON.
    """

    split: str
    images: int
    drawn: int
    annotation: Path


def generate_shapes(
    root: str | os.PathLike[str],
    counts: dict[str, int],
    settings: ShapesSettings | None = None,
    nproc: int = 1,
    show_progress: bool = False,
) -> list[SplitReport]:
    """Generate the dataset, or what is missing of it.

    An image depends on seed, split and index alone: neither ``nproc`` nor the number of images
    changes it. A run that was stopped goes on where it was; the JSONs are written last. A second
    process waits until the first has ended, and finds everything done.

    Args:
        root: Folder of the dataset.
        counts (dict[str, int]): Number of images by split (``train``, ``val``).
        settings (ShapesSettings | None): Size and seed.
        nproc (int): Number of processes, at least 1.
        show_progress (bool): Show a progress bar on the terminal.

    Returns:
        list[SplitReport]: One per split.

    Raises:
        ValueError: If an argument is out of range, or the folder holds a dataset of other settings.
    """
    settings = settings or ShapesSettings()
    _check_arguments(counts, nproc)
    with exclusive_folder(root, ".shapes.lock", wait=True):
        for split in counts:
            _check_settings(Path(root), split, settings)
        return [
            _generate_split(Path(root), split, count, settings, nproc, show_progress)
            for split, count in counts.items()
        ]


def make_scene(settings: ShapesSettings, split: str, index: int) -> Scene:
    """Draw the ``index``-th scene of a split; nothing else decides what it looks like."""
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    return draw_scene(rng, settings.height, settings.width)


def _check_arguments(counts: dict[str, int], nproc: int) -> None:
    for split, count in counts.items():
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
        if count < 1:
            raise ValueError(f"the number of {split} images must be at least 1, got {count}")
    if nproc < 1:
        raise ValueError(f"nproc must be at least 1, got {nproc}")


def _panoptic_json(root: Path, split: str) -> Path:
    return root / "annotations" / f"panoptic_{split}.json"


def _instances_json(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _records_folder(root: Path, split: str) -> Path:
    return root / "annotations" / _RECORDS / split


def _describe(settings: ShapesSettings) -> dict[str, Any]:
    return {
        "description": "mmpanoptic shapes",
        "generator_version": GENERATOR_VERSION,
        "settings": asdict(settings),
    }


def _check_settings(root: Path, split: str, settings: ShapesSettings) -> None:
    """Refuse to mix two datasets in one folder."""
    wanted = _describe(settings)
    mark, panoptic = _records_folder(root, split) / "info.json", _panoptic_json(root, split)
    if mark.exists() and (found := read_json(mark)) != wanted:
        _refuse(mark, found, wanted)
    if panoptic.exists() and (found := read_json(panoptic).get("info")) != wanted:
        _refuse(panoptic, found, wanted)


def _refuse(path: Path, found: Any, wanted: Any) -> None:
    raise ValueError(
        f"{path} belongs to another dataset: its info is {found}, wanted {wanted}; choose another "
        "folder or delete this one"
    )


def _generate_split(
    root: Path,
    split: str,
    count: int,
    settings: ShapesSettings,
    nproc: int,
    show_progress: bool,
) -> SplitReport:
    records = _records_folder(root, split)
    for folder in (records, root / "annotations" / f"panoptic_{split}", root / split):
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
    _write_records_of_json(root, split, records)
    write_json(records / "info.json", _describe(settings))
    missing = [index for index in range(count) if not _is_done(root, split, index)]
    label = f"shapes {split}" if show_progress else None
    for _ in run(partial(_make_image, root, settings, split), missing, nproc, label):
        pass
    _write_annotations(root, split, count, settings)
    shutil.rmtree(records)
    if not any(records.parent.iterdir()):
        records.parent.rmdir()
    return SplitReport(split, count, len(missing), _panoptic_json(root, split))


def _paths(root: Path, split: str, index: int) -> tuple[Path, Path, Path]:
    """Image, panoptic PNG and record of an image."""
    name = f"{index + 1:06d}"
    return (
        root / split / f"{name}.jpg",
        root / "annotations" / f"panoptic_{split}" / f"{name}.png",
        _records_folder(root, split) / f"{name}.json",
    )


def _is_done(root: Path, split: str, index: int) -> bool:
    return all(is_whole(path) for path in _paths(root, split, index))


def _make_image(root: Path, settings: ShapesSettings, split: str, index: int) -> None:
    """Draw and write one image; the record comes last and says that the others are whole."""
    scene = make_scene(settings, split, index)
    image, png, record = _paths(root, split, index)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    write_file(image, cv2.imencode(".jpg", scene.image, quality)[1].tobytes())
    write_file(png, encode_panoptic_png(scene.ids))
    content = {"segments_info": scene.segments, "instances": _describe_instances(scene)}
    write_json(record, content)


def _describe_instances(scene: Scene) -> list[dict[str, Any]]:
    """Describe the amodal masks in COCO's instance format."""
    from pycocotools import mask as coco_mask

    instances = []
    for depth, (mask, segment) in enumerate(
        zip(scene.masks, scene.mask_segments, strict=True), start=1
    ):
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        runs = find_runs(mask)
        area, box = segment_statistics(runs.value.astype(np.int64) - 1, runs, 1)
        instances.append(
            {
                "category_id": segment["category_id"],
                "segmentation": {
                    "size": [int(side) for side in code["size"]],
                    "counts": code["counts"].decode("ascii"),
                },
                "area": int(area[0]),
                "bbox": [int(value) for value in box[0]],
                "iscrowd": segment["iscrowd"],
                "segment_id": segment["id"],
                "depth": depth,
            }
        )
    return instances


def _write_records_of_json(root: Path, split: str, records: Path) -> None:
    """Take the records back out of finished JSONs, so that only missing images are drawn."""
    panoptic, instances = _panoptic_json(root, split), _instances_json(root, split)
    if not panoptic.exists() or not instances.exists():
        return
    by_image: dict[int, list[dict[str, Any]]] = {}
    for instance in read_json(instances)["annotations"]:
        image_id = instance.pop("image_id")
        del instance["id"]
        by_image.setdefault(image_id, []).append(instance)
    for annotation in read_json(panoptic)["annotations"]:
        image_id = annotation["image_id"]
        write_json(
            _paths(root, split, image_id - 1)[2],
            {
                "segments_info": annotation["segments_info"],
                "instances": by_image.get(image_id, []),
            },
        )


def _write_annotations(root: Path, split: str, count: int, settings: ShapesSettings) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for index in range(count):
        image, png, record = _paths(root, split, index)
        content = read_json(record)
        size = {"height": settings.height, "width": settings.width}
        images.append({"id": index + 1, "file_name": image.name, **size})
        annotations.append(
            {
                "image_id": index + 1,
                "file_name": png.name,
                "segments_info": content["segments_info"],
            }
        )
        for instance in content["instances"]:
            instances.append({"id": len(instances) + 1, "image_id": index + 1, **instance})
    categories = SHAPES_TABLE.to_categories()
    info = _describe(settings)
    things = [category for category in categories if category["isthing"]]
    write_json(
        _instances_json(root, split),
        {"info": info, "images": images, "annotations": instances, "categories": things},
    )
    write_json(
        _panoptic_json(root, split),
        {"info": info, "images": images, "annotations": annotations, "categories": categories},
    )
