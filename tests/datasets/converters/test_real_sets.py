"""The three real sets of the documentation: every instance that was annotated arrives."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from . import tool

_BESIDE = Path(__file__).resolve().parents[4] / "shared" / "data"
SETS = Path(os.environ.get("MMPANOPTIC_REAL_SETS") or _BESIDE)
CLASSES = Path(__file__).resolve().parents[3] / "docs" / "class_lists"


def needs(name):
    reason = f"set MMPANOPTIC_REAL_SETS to the folder that holds {name}"
    return pytest.mark.skipif(not (SETS / name).exists(), reason=reason)


def convert(out, classes, images, *args):
    base = [out, "--classes", CLASSES / f"{classes}.yaml", "--images", images]
    status, text, error = tool.call("own_data", *base, *args, "--nproc", 2)
    assert status == 0, error
    assert "warning" not in text
    return text


def things(out, split, images):
    """Count the segments of the thing classes, after check.py found no error."""
    path = out / "annotations" / f"panoptic_{split}.json"
    status, text, error = tool.call("check", path, "--img-dir", images, "--nproc", 2)
    assert status == 0, error
    assert "no errors" in text
    content = json.loads(path.read_text())
    names = {c["id"]: c["name"] for c in content["categories"] if c["isthing"]}
    return Counter(
        names[segment["category_id"]]
        for annotation in content["annotations"]
        for segment in annotation["segments_info"]
        if segment["category_id"] in names
    )


@needs("coco_stuff200")
def test_coco_instances_and_stuff(tmp_path):
    root = SETS / "coco_stuff200"
    files = [
        root / "annotations" / f"{kind}_{split}2017.json"
        for kind in ("instances", "stuff")
        for split in ("train", "val")
    ]
    options = ["--ignore-category", "other", "--split-list", f"val={files[1]}"]
    convert(tmp_path, "coco_supercategories", root, "--coco", *files, *options)
    for split, file in (("train", files[0]), ("val", files[1])):
        count = len(json.loads(file.read_text())["annotations"])
        assert things(tmp_path, split, root).total() == count


@needs("facade200")
def test_windows_on_facades(tmp_path):
    root = SETS / "facade200"
    files = [root / part / "_annotations.coco.json" for part in ("train", "test")]
    convert(tmp_path, "facades", root, "--coco", *files, "--split-list", f"val={files[1]}")
    for split, file in (("train", files[0]), ("val", files[1])):
        content = json.loads(file.read_text())
        names = {c["id"]: c["name"] for c in content["categories"]}
        annotated = Counter(names[a["category_id"]] for a in content["annotations"])
        found = things(tmp_path, split, root)
        assert found["window"] == annotated["window"]
        assert found == {name: annotated[name] for name in found}


@needs("nuclei260")
def test_a_mask_file_for_every_nucleus(tmp_path):
    shutil.unpack_archive(SETS / "nuclei260" / "stage1_subset.tar.gz", tmp_path, filter="data")
    images = tmp_path / "stage1_train"
    lists = ["--split-list", f"val={SETS / 'nuclei260' / 'index.csv'}"]
    options = ["--masks", images, "--background", "background", *lists]
    convert(tmp_path / "out", "nuclei", images, *options)
    found = sum(things(tmp_path / "out", split, images)["nucleus"] for split in ("train", "val"))
    assert found == len(list(images.glob("*/masks/*.png"))) == 8219
