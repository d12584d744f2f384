"""ADE20K: panoptic, instance and semantic annotations from its PNG folders."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.datasets.label_sets_ade20k import (
    ADE20K_CLASSES,
    FLAVOURS,
    ade20k_categories,
    category_id,
)
from mmpanoptic.utils import read_json
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.label_png import read_label_png, write_label_png

from .incremental import (
    InstanceFormat,
    Job,
    PanopticFormat,
    Record,
    Summary,
    convert_files,
    convert_to_json,
)
from .maps import MaskEncoder, describe_segments, read_two_channels, write_panoptic_png
from .painting import raise_listed

SPLITS = {"training": "train", "validation": "val"}
"""Folder names and the names in JSON files."""

_THINGS = [entry for entry in ADE20K_CLASSES if entry.isthing]
_NUM_CLASSES = len(ADE20K_CLASSES)


def make_panoptic(
    root: Path,
    out: Path,
    split: str,
    flavour: str = "mmdet",
    published_areas: bool = False,
    nproc: int = 1,
) -> Summary:
    """Write ``ade20k_panoptic_{train,val}.json`` and its PNGs.

    One segment per stuff class of the semantic map, then one per instance, painted over. Thing
    pixels without an instance are void. Ids are 1, 2, ... in the order of painting: stuff by
    scene-parsing value, instances by number.

    Differences from the original (the converters of mmdet and Mask2Former): boxes are right
    (mmdet's have wrong x), ids are not random, areas are counted at the end, and stuff that
    instances cover wholly is not listed.

    Args:
        root: Folder of ``ADEChallengeData2016``.
        out: For the JSON and the PNG folder.
        split: ``training`` or ``validation``.
        flavour: Of ``FLAVOURS``.
        published_areas: Give areas, boxes and stuff segments as the originals count them, before
            instances are painted over, for numbers that compare with published ones.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        ValueError: If the JSON is there in another flavour, or a folder is missing.
        PanopticFormatError: For missing and broken maps.
    """
    name = f"ade20k_panoptic_{SPLITS[split]}"
    path = out / f"{name}.json"
    info = {
        "description": "ADE20K panoptic",
        "converter": "mmpanoptic",
        "flavour": flavour,
        "published_areas": published_areas,
    }
    _refuse_other(path, info)
    jobs = []
    for semantic, instance in _pairs(root, split):
        jobs.append(Job(semantic.name, (semantic, instance), (out / name / semantic.name,)))
    form = PanopticFormat(ade20k_categories(flavour))
    function = partial(_write_panoptic, flavour, published_areas)
    return convert_to_json(function, jobs, path, form, info, nproc, name)


def make_instances(
    root: Path, out: Path, split: str, flavour: str = "mmdet", nproc: int = 1
) -> Summary:
    """Write ``ade20k_instance_{train,val}.json``: COCO instances of the 100 thing classes.

    Args:
        root: Folder of ``ADEChallengeData2016``.
        out: For the JSON.
        split: ``training`` or ``validation``.
        flavour: Of ``FLAVOURS``.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        ValueError: If the JSON is there in another flavour, or a folder is missing.
        PanopticFormatError: For missing and broken maps.
    """
    name = f"ade20k_instance_{SPLITS[split]}"
    path = out / f"{name}.json"
    info = {"description": "ADE20K instances", "converter": "mmpanoptic", "flavour": flavour}
    _refuse_other(path, info)
    jobs = [Job(f"{semantic.stem}.jpg", (instance,)) for semantic, instance in _pairs(root, split)]
    things = [
        {"id": category["id"], "name": category["name"]}
        for category in ade20k_categories(flavour)
        if category["isthing"]
    ]
    function = partial(_describe_instances, flavour)
    return convert_to_json(function, jobs, path, InstanceFormat(things), info, nproc, name)


def make_semantic(root: Path, out: Path, split: str, nproc: int = 1) -> Summary:
    """Write ``annotations_detectron2/<split>``: scene-parsing values minus 1, void 255.

    Args:
        root: Folder of ``ADEChallengeData2016``.
        out: For ``annotations_detectron2``.
        split: ``training`` or ``validation``.
        nproc: Number of processes.

    Returns:
        Summary: What was done.
    """
    target = out / "annotations_detectron2" / split
    paths = sorted((root / "annotations" / split).glob("ADE_*.png"))
    jobs = [Job(path.name, (path,), (target / path.name,)) for path in paths]
    return convert_files(_write_semantic, jobs, f"semantic {split}", target, nproc, adopt=True)


def find_splits(root: Path) -> list[str]:
    """List the splits that are there.

    Raises:
        ValueError: If there is none.
    """
    found = [split for split in SPLITS if (root / "annotations" / split).is_dir()]
    if not found:
        raise ValueError(
            f"{root} has neither annotations/training nor annotations/validation; unpack "
            "ADEChallengeData2016.zip and annotations_instance.tar there"
        )
    return found


def ade20k_segments(
    semantic: np.ndarray, instances: np.ndarray, flavour: str, published_areas: bool, path: Path
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Combine the two maps of an image.

    Args:
        semantic (np.ndarray): uint8 ``(H, W)``, 0 = other, 1..150.
        instances (np.ndarray): uint8 ``(H, W, 2)``: class 1..100 and number, 0 = none.
        flavour: Of ``FLAVOURS``.
        published_areas: See :func:`make_panoptic`.
        path: Named in messages.

    Returns:
        tuple[np.ndarray, list[dict]]: int32 ids ``(H, W)`` and ``segments_info``.

    Raises:
        PanopticFormatError: If an instance has two classes or a value is out of range.
    """
    if semantic.max(initial=0) > _NUM_CLASSES:
        detail = f"the scene-parsing map has the value {semantic.max()}; 0..150 are allowed"
        raise format_error("unknown_category", detail, path)
    stuff = np.zeros(256, bool)
    stuff[[entry.value for entry in ADE20K_CLASSES if not entry.isthing]] = True
    values = [int(value) for value in np.unique(semantic) if stuff[value]]
    table = np.zeros(256, np.int32)
    table[values] = np.arange(1, len(values) + 1)
    ids = table[semantic]
    categories = [category_id(ADE20K_CLASSES[value - 1], flavour) for value in values]
    early = {segment["id"]: segment for segment in describe_segments(ids)}
    owners = instance_classes(instances, path)
    numbers = np.zeros(256, np.int32)
    numbers[list(owners)] = len(categories) + 1 + np.arange(len(owners))
    ids = np.where(instances[..., 1] > 0, numbers[instances[..., 1]], ids)
    categories += [category_id(_THINGS[owner - 1], flavour) for owner in owners.values()]
    found = {segment["id"]: segment for segment in describe_segments(ids)}
    if published_areas:
        found |= early
    # What is covered wholly is not in ``found``; the remaining ids keep their order.
    kept = sorted(found)
    dense = np.zeros(len(categories) + 1, np.int32)
    dense[kept] = np.arange(1, len(kept) + 1)
    segments = [
        {
            "id": int(dense[old]),
            "category_id": categories[old - 1],
            "iscrowd": 0,
            "area": found[old]["area"],
            "bbox": found[old]["bbox"],
        }
        for old in kept
    ]
    return dense[ids], segments


def instance_classes(instances: np.ndarray, path: Path) -> dict[int, int]:
    """Find the class of every instance.

    Args:
        instances (np.ndarray): uint8 ``(H, W, 2)``: class 1..100 and number, 0 = none.
        path: Named in messages.

    Returns:
        dict[int, int]: Class by number, by ascending number.

    Raises:
        PanopticFormatError: If an instance has two classes or one out of range.
    """
    codes = np.unique(instances[..., 1].astype(np.int32) * 256 + instances[..., 0])
    owners: dict[int, int] = {}
    for code in codes.tolist():
        number, owner = divmod(code, 256)
        if not number:
            continue
        if number in owners:
            detail = f"instance {number} has two classes, {owners[number]} and {owner}"
            raise format_error("bad_field", detail, path)
        if not 1 <= owner <= len(_THINGS):
            detail = f"instance {number} has the class {owner}; 1..{len(_THINGS)} are allowed"
            raise format_error("unknown_category", detail, path)
        owners[number] = owner
    return owners


def _refuse_other(path: Path, info: dict[str, Any]) -> None:
    """Keep a JSON of another numbering: the three share their names."""
    if info["flavour"] not in FLAVOURS:
        raise ValueError(f"unknown flavour {info['flavour']!r}; known: {', '.join(FLAVOURS)}")
    if not path.exists():
        return
    content = read_json(path)
    found = content.get("info", {}) if isinstance(content, dict) else {}
    if found.get("flavour") != info["flavour"]:
        flavour = found.get("flavour", "one of another program")
        raise ValueError(
            f"{path} is there already ({flavour}, wanted {info['flavour']}); choose another "
            "--out-dir or remove it"
        )


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """List semantic and instance maps."""
    folders = [root / name / split for name in ("annotations", "annotations_instance")]
    names = sorted(path.name for path in folders[0].glob("ADE_*.png"))
    if not names:
        raise ValueError(f"{folders[0]} holds no ADE_*.png; unpack ADEChallengeData2016.zip")
    if not folders[1].is_dir():
        raise ValueError(f"there is no {folders[1]}; unpack annotations_instance.tar in {root}")
    pairs = [(folders[0] / name, folders[1] / name) for name in names]
    missing = [instance for _, instance in pairs if not instance.exists()]
    raise_listed("missing_file", "there is no instance map of the image", missing)
    return pairs


def _write_panoptic(flavour: str, published_areas: bool, job: Job) -> Record:
    semantic, instances = read_label_png(job.sources[0]), read_two_channels(job.sources[1])
    if semantic.shape != instances.shape[:2]:
        detail = f"the instance map has {instances.shape[:2]}, the semantic map {semantic.shape}"
        raise format_error("size_mismatch", detail, job.sources[1])
    ids, segments = ade20k_segments(semantic, instances, flavour, published_areas, job.sources[1])
    write_panoptic_png(job.outputs[0], ids)
    stem = job.sources[0].stem
    height, width = ids.shape
    return {
        "image": {"id": stem, "file_name": f"{stem}.jpg", "height": height, "width": width},
        "annotation": {"image_id": stem, "file_name": job.key, "segments_info": segments},
    }


def _describe_instances(flavour: str, job: Job) -> Record:
    instances = read_two_channels(job.sources[0])
    owners = instance_classes(instances, job.sources[0])
    numbers = instances[..., 1]
    encoder = MaskEncoder(numbers)
    annotations = [
        {
            "iscrowd": 0,
            "category_id": category_id(_THINGS[owners[segment["id"]] - 1], flavour),
            "bbox": segment["bbox"],
            "segmentation": encoder.encode(segment["id"]),
            "area": segment["area"],
        }
        for segment in describe_segments(numbers)
    ]
    stem = job.sources[0].stem
    height, width = numbers.shape
    image = {"id": stem, "file_name": job.key, "width": width, "height": height}
    return {"image": image, "annotations": annotations}


def _write_semantic(job: Job) -> None:
    # 0 (other) becomes 255 by wrapping around.
    write_label_png(job.outputs[0], read_label_png(job.sources[0]) - np.uint8(1))
