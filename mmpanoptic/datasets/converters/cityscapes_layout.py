"""Cityscapes in the folder layout of DeepSceneSeg/EfficientPS."""

from __future__ import annotations

from pathlib import Path

from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.jobs import write_file
from mmpanoptic.utils.label_png import read_label_png, write_label_png

from .cityscapes import CityscapesFolders, panoptic_segments, train_id_table
from .incremental import InstanceFormat, Job, Record, Summary, convert_files, convert_to_json
from .maps import MaskEncoder

_BY_ID = {label.id: label for label in CITYSCAPES_LABELS}


def make_efficientps_layout(
    folders: CityscapesFolders, split: str, target: Path, nproc: int = 1
) -> list[Summary]:
    """Write images, semantic maps and instance JSON as EfficientPS' code base expects them.

    ``<target>/<split>/<id>.png`` (images, copied), ``stuffthingmaps/<split>/<id>.png`` (train
    ids; groups keep their class) and ``annotations/<split>.json`` (category id = train id).

    Differences from the original (its ``convert_cityscapes.py``): masks are exact run-length
    codes instead of simplified polygons; images and annotations are numbered from 1 in sorted
    order, each by itself, instead of by one shared counter.

    Args:
        folders: Where things are.
        split: ``train`` or ``val``.
        target: Folder of the new layout.
        nproc: Number of processes.

    Returns:
        list[Summary]: One per kind of file.

    Raises:
        PanopticFormatError: If an image is missing.
    """
    file_jobs, json_jobs = [], []
    for stem in folders.stems(split):
        image = folders.image / split / stem.parent.name / f"{stem.name}_leftImg8bit.png"
        if not image.exists():
            detail = "the layout needs the images; unpack leftImg8bit_trainvaltest.zip"
            raise format_error("missing_file", detail, image)
        labels = stem.with_name(f"{stem.name}_gtFine_labelIds.png")
        instances = stem.with_name(f"{stem.name}_gtFine_instanceIds.png")
        name = f"{stem.name}.png"
        outputs = (target / split / name, target / "stuffthingmaps" / split / name)
        file_jobs.append(Job(name, (image, labels), outputs))
        json_jobs.append(Job(name, (instances,)))
    name, folder = f"layout {split}", target / split
    files = convert_files(_write_files, file_jobs, name, folder, nproc, adopt=True)
    info = {"description": "Cityscapes instances, train ids", "converter": "mmpanoptic"}
    things = [
        {"id": label.train_id, "name": label.name}
        for label in CITYSCAPES_LABELS
        if label.has_instances and not label.ignored
    ]
    path = target / "annotations" / f"{split}.json"
    name = f"layout annotations {split}"
    form = InstanceFormat(things, first_image=1)
    return [files, convert_to_json(_describe, json_jobs, path, form, info, nproc, name)]


def _write_files(job: Job) -> None:
    image, labels = job.sources
    write_file(job.outputs[0], image.read_bytes())
    values = read_label_png(labels, max_depth=8)
    write_label_png(job.outputs[1], train_id_table()[values])


def _describe(job: Job) -> Record:
    instance_ids = read_label_png(job.sources[0])
    encoder = MaskEncoder(instance_ids)
    annotations = [
        {
            "category_id": _BY_ID[segment["category_id"]].train_id,
            "iscrowd": segment["iscrowd"],
            "area": segment["area"],
            "bbox": segment["bbox"],
            "segmentation": encoder.encode(segment["id"]),
        }
        for segment in panoptic_segments(instance_ids)
        if _BY_ID[segment["category_id"]].has_instances
    ]
    height, width = instance_ids.shape
    image = {"file_name": job.key, "height": height, "width": width}
    return {"image": image, "annotations": annotations}
