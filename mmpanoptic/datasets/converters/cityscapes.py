"""Cityscapes: every derived annotation from the official ``gtFine`` folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.structures import find_runs
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS, INSTANCE_FACTOR, VOID_TRAIN_ID
from mmpanoptic.utils.jobs import write_file
from mmpanoptic.utils.label_png import read_label_png, write_label_png
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .incremental import (
    InstanceFormat,
    Job,
    PanopticFormat,
    Record,
    Summary,
    convert_files,
    convert_to_json,
)
from .maps import MaskEncoder, describe_segments

SPLITS = ("train", "val", "test")
_SUFFIX = "_gtFine_instanceIds.png"
_BY_ID = {label.id: label for label in CITYSCAPES_LABELS}
_EVALUATED = [label for label in CITYSCAPES_LABELS if not label.ignored]


@dataclass(frozen=True)
class CityscapesFolders:
    """Where the files of a Cityscapes copy lie.

    Attributes:
        root (Path): Folder of the dataset.
        image (Path): ``leftImg8bit``, with the splits inside.
        gt (Path): ``gtFine``, with the splits inside.
        out (Path): For instance JSONs.
        panoptic (Path): For panoptic JSONs and PNG folders.
    """

    root: Path
    image: Path
    gt: Path
    out: Path
    panoptic: Path

    def splits(self) -> list[str]:
        """List the splits that are there.

        Raises:
            ValueError: If there is none.
        """
        found = [split for split in SPLITS if (self.gt / split).is_dir()]
        if not found:
            raise ValueError(
                f"{self.gt} has none of the folders {', '.join(SPLITS)}; unpack "
                f"gtFine_trainvaltest.zip in {self.root} or name the folder with --gt-dir"
            )
        return found

    def stems(self, split: str, suffix: str = _SUFFIX) -> list[Path]:
        """List the annotated images of a split as ``gtFine/<split>/<city>/<id>``, by path.

        Raises:
            ValueError: If there is none.
        """
        paths = sorted(path for path in (self.gt / split).glob(f"*/*{suffix}"))
        if not paths:
            raise ValueError(
                f"{self.gt / split}/<city>/ holds no *{suffix}; unpack gtFine_trainvaltest.zip "
                "there, or draw the maps from the polygons with --from-polygons"
            )
        return [path.with_name(path.name[: -len(suffix)]) for path in paths]


def make_train_ids(folders: CityscapesFolders, split: str, nproc: int = 1) -> list[Summary]:
    """Write ``*_labelTrainIds.png`` and ``*_instanceTrainIds.png`` beside their sources.

    Args:
        folders: Where things are.
        split: ``train``, ``val`` or ``test``.
        nproc: Number of processes.

    Returns:
        list[Summary]: One per kind of file.
    """
    kinds: list[tuple[str, str, Callable[[Job], None]]] = [
        ("labelIds", "labelTrainIds", _write_label_train_ids),
        ("instanceIds", "instanceTrainIds", _write_instance_train_ids),
    ]
    summaries = []
    for source, target, function in kinds:
        jobs = [
            Job(stem.name, (_gt_file(stem, source),), (_gt_file(stem, target),))
            for stem in folders.stems(split, f"_gtFine_{source}.png")
        ]
        name = f"{target} {split}"
        folder = folders.gt / split
        summaries.append(convert_files(function, jobs, name, folder, nproc, adopt=True))
    return summaries


def make_panoptic(
    folders: CityscapesFolders, split: str, nproc: int = 1, historical_names: bool = False
) -> list[Summary]:
    """Write the panoptic JSONs and PNGs, with label ids and with train ids.

    Differences from the original (cityscapesScripts' ``createPanopticImgs``):
        ``images[].file_name`` is the path of the image under ``leftImg8bit/<split>``; the
        original writes ``<id>_gtFine_leftImg8bit.png``, which does not exist.

    Args:
        folders: Where things are.
        split: ``train``, ``val`` or ``test``.
        nproc: Number of processes.
        historical_names: Write the original's ``file_name``.

    Returns:
        list[Summary]: One per JSON.
    """
    name = f"cityscapes_panoptic_{split}"
    path = folders.panoptic / f"{name}.json"
    names = [name, f"{name}_trainId"]
    jobs = []
    for stem in folders.stems(split):
        png = f"{stem.name}_gtFine_panoptic.png"
        outputs = tuple(folders.panoptic / folder / png for folder in names)
        image = f"{stem.name}_gtFine_leftImg8bit.png" if historical_names else _image_name(stem)
        jobs.append(Job(png, (_gt_file(stem, "instanceIds"),), outputs, (stem.name, image)))
    info = _info("panoptic", historical_names=historical_names)
    form = PanopticFormat(panoptic_categories())
    summary = convert_to_json(_write_panoptic, jobs, path, form, info, nproc, name)
    return [summary, _make_train_id_json(path, summary)]


def make_instances(folders: CityscapesFolders, split: str, nproc: int = 1) -> Summary:
    """Write ``instancesonly_filtered_gtFine_<split>.json``, COCO instances with exact masks.

    Differences from the original (mmdet's converter): images are sorted by path, annotation ids
    start at 1 (pycocotools takes 0 for "unmatched"), and ``annotations`` is there if empty.

    Args:
        folders: Where things are.
        split: ``train``, ``val`` or ``test``.
        nproc: Number of processes.

    Returns:
        Summary: What was done.
    """
    path = folders.out / f"instancesonly_filtered_gtFine_{split}.json"
    jobs = [
        Job(_image_name(stem), (_gt_file(stem, "instanceIds"),), (), stem)
        for stem in folders.stems(split)
    ]
    things = [{"id": label.id, "name": label.name} for label in _EVALUATED if label.has_instances]
    form = InstanceFormat(things, first_image=0)
    return convert_to_json(_describe_instances, jobs, path, form, _info("instances"), nproc)


def panoptic_categories(train_ids: bool = False) -> list[dict[str, Any]]:
    """Return the categories of the panoptic JSON: the evaluated labels in label order."""
    return [
        {
            "id": label.train_id if train_ids else label.id,
            "name": label.name,
            "color": list(label.color),
            "supercategory": label.category,
            "isthing": int(label.has_instances),
        }
        for label in _EVALUATED
    ]


def train_id_table() -> np.ndarray:
    """Tabulate the train id of each value of an 8-bit label map; uint8 ``(256,)``."""
    table = np.full(256, VOID_TRAIN_ID, np.uint8)
    for label in CITYSCAPES_LABELS:
        table[label.id] = label.train_id
    return table


def to_instance_train_ids(instance_ids: np.ndarray) -> np.ndarray:
    """Replace the labels inside instance ids by train ids.

    Args:
        instance_ids (np.ndarray): ``(H, W)`` of ``*_instanceIds.png``.

    Returns:
        np.ndarray: uint16 ``(H, W)``: ``train_id * 1000 + number`` for instances, ``train_id``
        for stuff and groups, 255 for labels that are not evaluated.
    """
    runs = find_runs(instance_ids)
    label, number = _split_ids(runs.value)
    train_id = train_id_table()[label].astype(np.uint16)
    single = (number >= 0) & (train_id != VOID_TRAIN_ID)
    value = np.where(single, train_id * INSTANCE_FACTOR + number, train_id)
    return runs.expand(value.astype(np.uint16))


def panoptic_segments(instance_ids: np.ndarray) -> list[dict[str, Any]]:
    """Describe the evaluated segments of an instance map.

    Args:
        instance_ids (np.ndarray): ``(H, W)`` of ``*_instanceIds.png``.

    Returns:
        list[dict]: ``segments_info`` by ascending id, which is the value in the map; groups of
        things are crowd.
    """
    segments = []
    for segment in describe_segments(instance_ids):
        value = segment["id"]
        label = _label_of(value)
        if label is None or label.ignored:
            continue
        crowd = int(value < INSTANCE_FACTOR and label.has_instances)
        segments.append({"id": value, "category_id": label.id, "iscrowd": crowd, **segment})
    return segments


def _split_ids(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split instance ids into label and number, which is -1 for stuff and groups."""
    wide = values.astype(np.int64)
    single = wide >= INSTANCE_FACTOR
    label = np.where(single, wide // INSTANCE_FACTOR, wide)
    # Values outside the label list cannot occur in official files; they count as unlabeled.
    return np.where(label < 256, label, 0), np.where(single, wide % INSTANCE_FACTOR, -1)


def _label_of(value: int) -> Any:
    return _BY_ID.get(value // INSTANCE_FACTOR if value >= INSTANCE_FACTOR else value)


def _gt_file(stem: Path, kind: str) -> Path:
    return stem.with_name(f"{stem.name}_gtFine_{kind}.png")


def _image_name(stem: Path) -> str:
    return f"{stem.parent.name}/{stem.name}_leftImg8bit.png"


def _info(kind: str, **settings: Any) -> dict[str, Any]:
    return {"description": f"Cityscapes {kind}", "converter": "mmpanoptic", "version": 1} | settings


def _write_label_train_ids(job: Job) -> None:
    labels = read_label_png(job.sources[0], max_depth=8)
    write_label_png(job.outputs[0], train_id_table()[labels])


def _write_instance_train_ids(job: Job) -> None:
    write_label_png(job.outputs[0], to_instance_train_ids(read_label_png(job.sources[0])))


def _write_panoptic(job: Job) -> Record:
    instance_ids = read_label_png(job.sources[0])
    image_id, file_name = job.data
    segments = panoptic_segments(instance_ids)
    listed = np.zeros(1 << 16, np.int32)
    kept = [segment["id"] for segment in segments]
    listed[kept] = kept
    data = encode_panoptic_png(listed[instance_ids])
    for output in job.outputs:
        write_file(output, data)
    height, width = instance_ids.shape
    return {
        "image": {"id": image_id, "file_name": file_name, "height": height, "width": width},
        "annotation": {
            "image_id": image_id,
            "file_name": job.key,
            "segments_info": segments,
        },
    }


def _make_train_id_json(path: Path, summary: Summary) -> Summary:
    """Write the JSON with train ids from the one with label ids; ids of segments are the same."""
    target = path.with_name(f"{path.stem}_trainId.json")
    content = read_json(path)
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] = _BY_ID[segment["category_id"]].train_id
    content["categories"] = panoptic_categories(train_ids=True)
    if not target.exists() or read_json(target) != content:
        write_json(target, content)
    return Summary(target.stem, summary.total, summary.done, target)


def _describe_instances(job: Job) -> Record:
    instance_ids = read_label_png(job.sources[0])
    stem: Path = job.data
    encoder = MaskEncoder(instance_ids)
    annotations = []
    for segment in panoptic_segments(instance_ids):
        if not _BY_ID[segment["category_id"]].has_instances:
            continue
        annotations.append(
            {
                "iscrowd": segment["iscrowd"],
                "category_id": segment["category_id"],
                "bbox": [float(side) for side in segment["bbox"]],
                "area": segment["area"],
                "segmentation": encoder.encode(segment["id"]),
            }
        )
    height, width = instance_ids.shape
    image = {
        "file_name": job.key,
        "height": height,
        "width": width,
        "segm_file": f"{stem.parent.name}/{stem.name}_gtFine_labelIds.png",
    }
    return {"image": image, "annotations": annotations}


def convert_cityscapes(
    folders: CityscapesFolders,
    kinds: Iterable[str],
    splits: Sequence[str],
    nproc: int = 1,
    historical_names: bool = False,
) -> list[Summary]:
    """Make the derived annotations of some splits.

    Args:
        folders: Where things are.
        kinds: Of ``train_ids``, ``panoptic``, ``instances``.
        splits: Of ``train``, ``val``, ``test``.
        nproc: Number of processes.
        historical_names: See :func:`make_panoptic`.

    Returns:
        list[Summary]: What was done.
    """
    summaries: list[Summary] = []
    for split in splits:
        if "train_ids" in kinds:
            summaries += make_train_ids(folders, split, nproc)
        if "panoptic" in kinds:
            summaries += make_panoptic(folders, split, nproc, historical_names)
        if "instances" in kinds:
            summaries.append(make_instances(folders, split, nproc))
    return summaries
