"""Own data to COCO panoptic: from labelme files and COCO instance JSONs (CVAT exports them)."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import cv2
import numpy as np

from mmpanoptic.datasets.panoptic_json import load_json_object
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error

from .class_list import ClassList
from .incremental import Job, Record
from .maps import decode_mask, read_image_size
from .masks_to_panoptic import make_shape
from .painting import Shape, paint_shapes, png_name, raise_listed, write_record

_CIRCLE_CORNERS = 64


def labelme_jobs(folder: Path, images: Path) -> list[Job]:
    """List labelme files with their images.

    Args:
        folder: Of the ``*.json``, searched with sub-folders.
        images: Folder of the images; ``imagePath`` is looked up here, beside the labelme file's
            relative place, by its name alone.

    Returns:
        list[Job]: Without outputs.

    Raises:
        ValueError: If there are no labelme files.
        PanopticFormatError: Listing all missing images.
    """
    jobs, missing = [], []
    for path in sorted(folder.rglob("*.json")):
        content = load_json_object(str(path))
        if "shapes" not in content or "imagePath" not in content:
            continue
        # labelme on Windows writes backslashes; only the name counts.
        name = PureWindowsPath(content["imagePath"]).name
        image = images / path.relative_to(folder).parent / name
        if not image.exists():
            missing.append(image)
        relative = image.relative_to(images)
        key = relative.with_suffix("").as_posix()
        data = {"id": key, "file_name": relative.as_posix()}
        jobs.append(Job(f"{key}.png", (image, path), (), data))
    raise_listed("missing_file", "the image of a labelme file is missing", missing)
    if not jobs:
        raise ValueError(f"{folder} holds no labelme files (JSON with shapes and imagePath)")
    return jobs


def read_labelme(classes: ClassList, overlap: str, background: int | None, job: Job) -> Record:
    """Convert one labelme file; shapes of one label and ``group_id`` are one instance.

    Args:
        classes: The classes.
        overlap: See :func:`paint_shapes`.
        background: Contiguous label of pixels without a shape; None leaves them void.
        job: Sources are the image and the labelme file.

    Returns:
        dict: Record of the image.

    Raises:
        PanopticFormatError: For unknown labels, broken shapes, or another size than the image's.
    """
    path = job.sources[1]
    content = load_json_object(str(path))
    size = read_image_size(job.sources[0])
    given = (content.get("imageHeight") or size[0], content.get("imageWidth") or size[1])
    if given != size:
        detail = f"the file says {given} (height, width), its image has {size}"
        raise format_error("size_mismatch", detail, path, job.data["id"])
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for position, shape in enumerate(content["shapes"]):
        if shape.get("label") in classes.ignore:
            continue
        group = shape.get("group_id")
        key = ("alone", position) if group is None else (shape.get("label"), group)
        groups.setdefault(key, []).append(shape)
    shapes = []
    for number, members in enumerate(groups.values(), 1):
        label = _label_of(members[0].get("label"), classes, path, job.data["id"])
        mask = partial(_labelme_mask, members, size, path, job.data["id"])
        shapes.append(Shape(mask, label, name=f"shape {number}"))
    return _paint(shapes, size, classes, overlap, background, job)


def _label_of(name: Any, classes: ClassList, path: Path, image_id: Any) -> int:
    try:
        return classes.table.by_name(name).index
    except KeyError as error:
        detail = f"{error.args[0]}; add the class to {classes.path} or name it under ignore"
        raise format_error("unknown_category", detail, path, image_id) from error


def _labelme_mask(
    members: list[Mapping[str, Any]], size: tuple[int, int], path: Path, image_id: Any
) -> np.ndarray:
    mask = np.zeros(size, bool)
    for shape in members:
        try:
            mask |= _shape_mask(shape, size)
        except (KeyError, TypeError, ValueError) as error:
            detail = f"cannot draw a shape of {shape.get('label')!r}: {error}"
            raise format_error("bad_field", detail, path, image_id) from error
    return mask


def _shape_mask(shape: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind == "polygon":
        corners = points
    elif kind == "rectangle":
        (x1, y1), (x2, y2) = points
        corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    elif kind == "circle":
        corners = _circle(*points)
    elif kind == "mask":
        return _pasted_mask(shape["mask"], points, size)
    else:
        raise ValueError(
            f"shape_type {kind!r} has no area; known: polygon, rectangle, circle, mask"
        )
    return decode_mask([[float(v) for corner in corners for v in corner]], *size)


def _circle(center: list[float], rim: list[float]) -> list[list[float]]:
    radius = math.dist(center, rim)
    angles = [2 * math.pi * k / _CIRCLE_CORNERS for k in range(_CIRCLE_CORNERS)]
    return [[center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)] for a in angles]


def _pasted_mask(code: str, points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """Paste labelme's own mask shape: a PNG in base64 at the first point."""
    try:
        data = np.frombuffer(base64.b64decode(code, validate=True), np.uint8)
    except binascii.Error as error:
        raise ValueError(f"the mask is not base64: {error}") from error
    patch = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if patch is None:
        raise ValueError("the mask is no PNG")
    mask = np.zeros(size, bool)
    left, top = (round(v) for v in points[0])
    height, width = min(patch.shape[0], size[0] - top), min(patch.shape[1], size[1] - left)
    if left < 0 or top < 0 or height <= 0 or width <= 0:
        raise ValueError(f"the mask starts outside the image, at {points[0]}")
    mask[top : top + height, left : left + width] = patch[:height, :width] > 0
    return mask


def coco_jobs(path: Path, images: Path, classes: ClassList) -> list[Job]:
    """List the images of a COCO instance JSON with their annotations.

    Args:
        path: The JSON; its categories are matched to the class list by name.
        images: Folder of the images.
        classes: The classes.

    Returns:
        list[Job]: Without outputs.

    Raises:
        PanopticFormatError: Listing unknown categories, references and missing images.
    """
    content = load_json_object(str(path))
    lists = ("images", "annotations", "categories")
    lacking = [name for name in lists if not isinstance(content.get(name), list)]
    if lacking:
        raise format_error("missing_field", f"the file has no list {', '.join(lacking)}", path)
    names = {category["id"]: category["name"] for category in content["categories"]}
    known = {label.name for label in classes.table} | set(classes.ignore)
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    problems = []
    for position, annotation in enumerate(content["annotations"]):
        name, image_id = names.get(annotation.get("category_id")), annotation.get("image_id")
        if name not in known:
            detail = f"annotations[{position}] has the class {name!r}, not in {classes.path}"
            problems.append(FormatProblem("unknown_category", detail, str(path), image_id))
        elif image_id not in by_image:
            detail = f"annotations[{position}] belongs to an unknown image"
            problems.append(FormatProblem("missing_image", detail, str(path), image_id))
        elif name not in classes.ignore:
            by_image[image_id].append({**annotation, "class": name})
    if problems:
        raise PanopticFormatError(problems)
    jobs = []
    for image in content["images"]:
        file_name = image["file_name"]
        name = png_name(file_name, path)
        image_id = name.removesuffix(".png")
        data = ({"id": image_id, "file_name": file_name}, by_image[image["id"]])
        jobs.append(Job(name, (images / file_name, path), (), data))
    missing = [job.sources[0] for job in jobs if not job.sources[0].exists()]
    raise_listed("missing_file", "there is no such image; see --images", missing)
    return jobs


def read_coco(classes: ClassList, overlap: str, background: int | None, job: Job) -> Record:
    """Convert the annotations of one image; see :func:`read_labelme`."""
    image, annotations = job.data
    size = read_image_size(job.sources[0])
    shapes = []
    for annotation in annotations:
        label = classes.table.by_name(annotation["class"]).index
        name = f"annotation {annotation.get('id')}"
        shapes.append(make_shape(annotation, label, size, name))
    plain = Job(job.key, job.sources, job.outputs, image)
    return _paint(shapes, size, classes, overlap, background, plain)


def _paint(
    shapes: list[Shape],
    size: tuple[int, int],
    classes: ClassList,
    overlap: str,
    background: int | None,
    job: Job,
) -> Record:
    try:
        ids, segments = paint_shapes(shapes, size, classes.table, overlap, background)
    except PanopticFormatError:
        raise
    except (TypeError, ValueError) as error:
        path, image_id = job.sources[1], job.data["id"]
        raise format_error("bad_field", str(error), path, image_id) from error
    image = {**job.data, "height": size[0], "width": size[1]}
    return write_record(job, image, ids, segments)
