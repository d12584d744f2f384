"""Conversion of COCO instances to panoptic PNGs, as own_data.py does it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.datasets.converters.class_list import ClassList, read_class_list
from mmpanoptic.datasets.converters.label_items import ImageFinder
from mmpanoptic.datasets.converters.own_coco import CocoOptions, read_coco_labels
from mmpanoptic.datasets.converters.own_data import (
    PaintOptions,
    convert_own_data,
    list_jobs,
)
from mmpanoptic.utils.panoptic_png import read_panoptic_png

DESCRIPTION = (
    "own_data.py --coco: reading and checking the JSON, hashing the sources, painting, PNGs, "
    "balance, record; one process."
)
BASELINE = (
    "the usual script: json, one full-size mask per annotation (pycocotools), painted by falling "
    "area; one pass over the map per segment for area and box; PNG by OpenCV; nothing is checked"
)
SIZES = {"default": 100, "small": 4}
CLASSES = "[{name: car, thing: true}, {name: tree, thing: true}, {name: road, thing: false}]"
HEIGHT, WIDTH, POLYGONS = 480, 640, 20


def write_set(root: Path, images: int, seed: int = 0) -> Path:
    """Write photographs of 640x480 with 20 polygons each, and their JSON."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "classes.yaml").write_text(CLASSES, encoding="utf-8")
    small = rng.integers(0, 256, (30, 40, 3), np.uint8)
    photo = cv2.imencode(".jpg", cv2.resize(small, (WIDTH, HEIGHT)))[1].tobytes()
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        (root / "images" / f"{number:06d}.jpg").write_bytes(photo)
        for _ in range(POLYGONS):
            annotations.append(_annotation(rng, len(annotations) + 1, number))
    content = {
        "images": [
            {"id": n, "file_name": f"{n:06d}.jpg", "height": HEIGHT, "width": WIDTH}
            for n in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(("car", "tree", "road"))],
    }
    (root / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def _annotation(rng: np.random.Generator, number: int, image: int) -> dict[str, Any]:
    """Make a star-shaped polygon of some twenty corners, as large as COCO's instances."""
    corners = int(rng.integers(12, 30))
    angle = np.sort(rng.random(corners)) * 2 * np.pi
    radius = np.exp(rng.uniform(2, 4.6)) * rng.uniform(0.6, 1.2, corners)
    center = rng.random(2) * (WIDTH, HEIGHT)
    points = center + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    polygon = np.clip(points, 0, (WIDTH, HEIGHT)).round(2).ravel().tolist()
    category = int(rng.integers(3))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "segmentation": [polygon],
    }


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Write the set."""
    folder = tempfile.TemporaryDirectory()
    root = write_set(Path(folder.name) / "set", SIZES[size])
    return {"folder": folder, "root": root, "runs": 0}


def _next_folder(inputs: dict[str, Any], name: str) -> Path:
    inputs["runs"] += 1
    folder: Path = inputs["root"].parent / f"{name}{inputs['runs']}"
    folder.mkdir()
    return folder


def ours(inputs: dict[str, Any]) -> Path:
    """Convert as the command does; return the folder of the PNGs."""
    root, out = inputs["root"], _next_folder(inputs, "ours")
    classes = read_class_list(root / "classes.yaml")
    finder = ImageFinder(root / "images")
    labels = read_coco_labels([root / "coco.json"], finder, classes, CocoOptions())
    jobs = [replace(job) for job in list_jobs(labels, finder)]
    names = [job.key.removesuffix(".png") for job in jobs]
    convert_own_data(jobs, PaintOptions(classes), out, {"train": names}, {})
    return out / "annotations" / "panoptic_train"


def baseline(inputs: dict[str, Any]) -> Path:
    """Convert as scripts do; return the folder of the PNGs."""
    root, out = inputs["root"], _next_folder(inputs, "plain")
    classes: ClassList = read_class_list(root / "classes.yaml")
    content = json.loads((root / "coco.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    entries = []
    for image in content["images"]:
        ids = _paint_plainly(by_image[image["id"]], classes)
        segments = []
        for number in np.unique(ids)[np.unique(ids) > 0].tolist():
            ys, xs = np.nonzero(ids == number)
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            segments.append({"id": number, "area": len(ys), "bbox": [int(v) for v in box]})
        entries.append({"image_id": image["id"], "segments_info": segments})
        color = np.stack([ids >> 16, (ids >> 8) & 255, ids & 255], 2).astype(np.uint8)
        cv2.imwrite(str(out / f"{image['file_name'][:-4]}.png"), color)
    (out / "panoptic.json").write_text(json.dumps(entries), encoding="utf-8")
    return out


def _paint_plainly(annotations: list[dict[str, Any]], classes: ClassList) -> np.ndarray:
    from pycocotools import mask as coco_mask

    masks = []
    for annotation in annotations:
        code = coco_mask.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
        masks.append(coco_mask.decode(coco_mask.merge(code)).astype(bool))
    owner = np.zeros((HEIGHT, WIDTH), np.int32)
    for k in sorted(range(len(masks)), key=lambda k: -int(masks[k].sum())):
        owner[masks[k]] = k + 1
    # Stuff is one segment; ids by class and order.
    things = [classes.table[a["category_id"]].isthing for a in annotations]
    keys = [
        (a["category_id"], k if thing else -1)
        for k, (a, thing) in enumerate(zip(annotations, things, strict=True))
    ]
    present = [k - 1 for k in np.unique(owner).tolist() if k]
    order = sorted({keys[k] for k in present})
    numbers = np.zeros(len(masks) + 1, np.int32)
    for k in present:
        numbers[k + 1] = order.index(keys[k]) + 1
    return numbers[owner]


def check(expected: Path, got: Path) -> None:
    """Compare the maps."""
    names = sorted(path.name for path in expected.glob("*.png"))
    if names != sorted(path.name for path in got.glob("*.png")):
        raise AssertionError("other images were converted")
    for name in names:
        mine, plain = read_panoptic_png(got / name), read_panoptic_png(expected / name)
        if not np.array_equal(mine, plain):
            raise AssertionError(f"the maps of {name} differ")
