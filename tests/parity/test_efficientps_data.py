"""The Cityscapes files that EfficientPS and its SOLOv2 variant are trained on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.cityscapes import CityscapesFolders, convert_cityscapes
from mmpanoptic.structures import rgb2id
from mmpanoptic.utils.panoptic_png import read_panoptic_png
from tests.golden import golden_files

SPLIT = "val"
FILES = golden_files("efficientps_solov2", "cityscapes_convert*.npz")


@pytest.fixture(params=FILES, ids=lambda p: p.stem)
def converted(request, tmp_path):
    """Golden arrays, golden JSONs, and the folder that our converter made from the same ids."""
    with np.load(request.param) as data:
        arrays = {key: data[key] for key in data.files}
    for key, ids in arrays.items():
        if not key.startswith("instance_ids_"):
            continue
        stem = key.removeprefix("instance_ids_")
        city = stem.split("_")[0]
        labels = np.where(ids < 1000, ids, ids // 1000).astype(np.uint8)
        write(tmp_path / f"gtFine/{SPLIT}/{city}/{stem}_gtFine_instanceIds.png", ids)
        write(tmp_path / f"gtFine/{SPLIT}/{city}/{stem}_gtFine_labelIds.png", labels)
        write(tmp_path / f"leftImg8bit/{SPLIT}/{city}/{stem}_leftImg8bit.png", labels)
    folders = CityscapesFolders(
        tmp_path,
        tmp_path / "leftImg8bit",
        tmp_path / "gtFine",
        tmp_path / "annotations",
        tmp_path / "gtFine",
    )
    convert_cityscapes(folders, ("panoptic", "instances"), [SPLIT], historical_names=True)
    return arrays, json.loads(request.param.with_suffix(".json").read_text()), tmp_path


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


@pytest.mark.parametrize("suffix", ["", "_trainId"])
def test_panoptic_files(converted, suffix):
    arrays, golden, folder = converted
    name = f"cityscapes_panoptic_{SPLIT}{suffix}"
    made = json.loads((folder / "gtFine" / f"{name}.json").read_text())
    wanted = golden["panoptic_train_id" if suffix else "panoptic"]
    for field in ("images", "annotations", "categories"):
        assert made[field] == wanted[field]
    for annotation in wanted["annotations"]:
        png = read_panoptic_png(folder / "gtFine" / name / annotation["file_name"])
        expected = arrays[f"panoptic_png_{annotation['image_id']}"]
        assert np.array_equal(png, rgb2id(expected))


def test_instance_file(converted):
    _, golden, folder = converted
    (path,) = (folder / "annotations").glob(f"*{SPLIT}.json")
    made, wanted = json.loads(path.read_text()), golden["instances"]
    assert made["images"] == wanted["images"]
    assert made["categories"] == wanted["categories"]
    # Ours count from 1: pycocotools takes annotation 0 for "no match".
    for number, annotation in enumerate(made["annotations"]):
        assert annotation.pop("id") == number + 1
    for annotation in wanted["annotations"]:
        del annotation["id"]
    assert made["annotations"] == wanted["annotations"]
