"""Own data to COCO panoptic: from label and instance maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.label_png import read_label_png

from .class_list import ClassList
from .coco_json import choose_images
from .incremental import Job, PanopticFormat, Record, Summary, convert_to_json
from .maps import read_image_size
from .painting import combine_maps, raise_listed, write_record

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class MapFolders:
    """Where images and maps lie, and how their names differ.

    The maps of ``<image folder>/a/b<image suffix>.jpg`` are ``<label folder>/a/b<label
    suffix>.png`` and ``<instance folder>/a/b<instance suffix>.png``.

    Attributes:
        images (Path): Folder, searched with sub-folders.
        labels (Path): Folder of the label maps, 8 or 16-bit grey or palette PNGs.
        instances (Path | None): Folder of the instance maps; None if there are none.
        image_suffix (str): End of the images' names before the extension.
        label_suffix (str): End of the label maps' names before the extension.
        instance_suffix (str): End of the instance maps' names before the extension.
    """

    images: Path
    labels: Path
    instances: Path | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    instance_suffix: str = ""


def find_images(folder: Path, suffix: str = "") -> dict[str, Path]:
    """Find the images below a folder.

    Args:
        folder: Searched with sub-folders; hidden files are left out.
        suffix: End of the names before the extension.

    Returns:
        dict[str, Path]: By relative path without suffix and extension, sorted.

    Raises:
        ValueError: If there are none, or two of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if not path.stem.endswith(suffix):
            continue
        name = path.stem[: len(path.stem) - len(suffix)]
        key = (path.relative_to(folder).parent / name).as_posix()
        if key in found:
            raise ValueError(f"{found[key]} and {path} differ in the extension only; remove one")
        found[key] = path
    if not found:
        ends = f" whose names end in {suffix!r}" if suffix else ""
        raise ValueError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}){ends}")
    return found


def map_jobs(folders: MapFolders, classes: ClassList, components: bool) -> list[Job]:
    """List the images with their maps.

    Args:
        folders: Where things are.
        classes: The classes.
        components: Connected regions stand for instances, so no instance maps are needed.

    Returns:
        list[Job]: Without outputs; see :func:`convert_own_data`.

    Raises:
        ValueError: If there are things, but no instances.
        PanopticFormatError: Listing all images without maps.
    """
    if not classes.has_values:
        raise ValueError(f"{classes.path}: label maps need a value for every class")
    if classes.table.num_things and folders.instances is None and not components:
        raise ValueError(
            "the class list has things, so --instances must name the folder of the instance maps; "
            "--components takes every connected region of a thing class as one instance instead"
        )
    jobs, missing = [], []
    for key, image in find_images(folders.images, folders.image_suffix).items():
        paths = [folders.labels / f"{key}{folders.label_suffix}.png"]
        if folders.instances is not None and not components:
            paths.append(folders.instances / f"{key}{folders.instance_suffix}.png")
        missing += [path for path in paths if not path.exists()]
        name = image.relative_to(folders.images).as_posix()
        jobs.append(Job(f"{key}.png", (image, *paths), (), {"id": key, "file_name": name}))
    detail = "there is no such map; see --label-suffix and --instance-suffix if names differ"
    raise_listed("missing_file", detail, missing)
    return jobs


def convert_own_data(
    jobs: Sequence[Job],
    function: Callable[[Job], Record],
    classes: ClassList,
    out: Path,
    splits: Mapping[str, Sequence[str]],
    info: dict[str, Any],
    nproc: int = 1,
) -> list[Summary]:
    """Write ``annotations/panoptic_<split>.json`` and PNG folder for each split.

    Args:
        jobs: Of all images, without outputs.
        function: Writes the PNG of a job and returns its record.
        classes: The classes.
        out: Folder of the dataset.
        splits: Keys of the jobs by name of the split.
        info: Settings that decide the result.
        nproc: Number of processes.

    Returns:
        list[Summary]: One per split.
    """
    by_key = {job.key: job for job in jobs}
    categories = classes.table.to_categories()
    info = {"description": "own data", **info, "ignore": list(classes.ignore)}
    summaries = []
    for split, keys in splits.items():
        path = out / "annotations" / f"panoptic_{split}.json"
        folder = path.with_suffix("")
        chosen = [replace(by_key[key], outputs=(folder / key,)) for key in keys]
        form, settings = PanopticFormat(categories), {**info, "categories": categories}
        summaries.append(convert_to_json(function, chosen, path, form, settings, nproc))
    return summaries


def split_jobs(jobs: Sequence[Job], name: str, val: float, seed: int) -> dict[str, list[str]]:
    """Divide the images into splits.

    Args:
        jobs: All images.
        name: Split of the images that are not taken for validation.
        val: Number of validation images if 1 or more, their share if less, 0 for none.
        seed: For :func:`choose_images`.

    Returns:
        dict[str, list[str]]: Keys by split, in the order of the jobs.

    Raises:
        ValueError: If a part would be empty.
    """
    keys = [job.key for job in jobs]
    if not val:
        return {name: keys}
    count = round(val) if val >= 1 else max(1, round(val * len(keys)))
    chosen = set(choose_images(keys, count, seed))
    return {
        name: [key for key in keys if key not in chosen],
        "val": [key for key in keys if key in chosen],
    }


def read_maps(classes: ClassList, zero_is_crowd: bool, components: bool, job: Job) -> Record:
    """Convert the maps of one image.

    Args:
        classes: The classes.
        zero_is_crowd: See :func:`combine_maps`.
        components: Connected regions stand for instances.
        job: Sources are the image, its label map and, unless ``components``, its instance map.

    Returns:
        dict: Record of the image; ``notes`` names values that are in no class and not ignored.

    Raises:
        PanopticFormatError: If a file is broken or the sizes differ.
    """
    size = read_image_size(job.sources[0])
    values = read_label_png(job.sources[1])
    _check_size(values, size, job.sources[1], job.data["id"])
    table, unknown = classes.lookup(65536 if values.dtype == np.uint16 else 256)
    labels = table[values]
    if components:
        instances = _connected(labels, classes)
    elif len(job.sources) > 2:
        instances = read_label_png(job.sources[2])
        _check_size(instances, size, job.sources[2], job.data["id"])
    else:
        instances = np.zeros(size, np.uint8)
    ids, segments = combine_maps(labels, instances, classes.table, zero_is_crowd)
    image = {**job.data, "height": size[0], "width": size[1]}
    strange = np.unique(values[unknown[values]]).tolist()
    notes = [
        f"value {value} is in no class and not ignored; its pixels are void" for value in strange
    ]
    return write_record(job, image, ids, segments, notes=notes)


def _check_size(values: np.ndarray, size: tuple[int, int], path: Path, image_id: str) -> None:
    if values.shape != size:
        detail = f"the map has {values.shape} (height, width), its image {size}"
        raise format_error("size_mismatch", detail, path, image_id)


def _connected(labels: np.ndarray, classes: ClassList) -> np.ndarray:
    """Number the connected regions of each thing class, diagonal neighbours included."""
    instances = np.zeros(labels.shape, np.int32)
    for label in classes.table.thing_labels:
        mask = (labels == label).astype(np.uint8)
        if mask.any():
            instances += cv2.connectedComponents(mask, connectivity=8)[1]
    return instances


def map_function(
    classes: ClassList, zero_is_crowd: bool, components: bool
) -> Callable[[Job], Record]:
    """Bind the settings of :func:`read_maps`."""
    return partial(read_maps, classes, zero_is_crowd, components)
