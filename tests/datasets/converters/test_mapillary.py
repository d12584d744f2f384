import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from . import tool
from .tool import contents

IDS = np.array([[0, 300, 300, 7], [0, 300, 70000, 7]], np.int32)
LABELS = np.array([[2, 0, 0, 1], [65, 0, 1, 1]], np.uint8)
CATEGORIES = [
    {"id": 2, "name": "object--car", "isthing": 1},
    {"id": 1, "name": "nature--sky", "isthing": 0},
]
SEGMENTS = [
    {"id": 300, "category_id": 1, "iscrowd": 0, "area": 3, "bbox": [1, 0, 2, 2]},
    {"id": 7, "category_id": 2, "iscrowd": 0, "area": 2, "bbox": [3, 0, 1, 2]},
    {"id": 70000, "category_id": 2, "iscrowd": 0, "area": 1, "bbox": [2, 1, 1, 1]},
]


def make(root, split, version, nested):
    folder = root / split / f"v{version}" if nested else root / split
    images, annotations = [], []
    for name in ("aa", "bb"):
        path = root / split / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((2, 4, 3), np.uint8))
        for kind in ("panoptic", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / "panoptic" / f"{name}.png").write_bytes(encode_panoptic_png(IDS))
        labels = Image.fromarray(LABELS, "P")
        labels.putpalette([10, 200, 30] * 256)
        labels.save(folder / "labels" / f"{name}.png")
        images.append({"id": name, "file_name": f"{name}.jpg", "height": 2, "width": 4})
        entry = {"image_id": name, "file_name": f"{name}.png", "segments_info": SEGMENTS}
        annotations.append(entry)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    year = {"1.2": 2018, "2.0": 2020}[version]
    (folder / "panoptic" / f"panoptic_{year}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def root(tmp_path):
    return make_both(tmp_path)


def make_both(root):
    make(root, "training", "1.2", nested=False)
    make(root, "validation", "1.2", nested=True)
    make(root, "validation", "2.0", nested=True)
    return root


def call(root, *args):
    return tool.call("mapillary", root, *args)


def test_layouts_of_both_versions_are_found(root):
    status, text, _ = call(root, "--deep", "--labels")
    assert status == 0
    assert "training v1.2: 2 images, LabelTable(1 things, 1 stuff), no problems" in text
    assert "validation v2.0" in text
    assert "ann_file    validation/v2.0/panoptic/panoptic_2020.json" in text
    assert "seg=validation/v1.2/panoptic/" in text
    assert "object--car" in text
    only = call(root, "--version", "2.0")[1]
    assert "v1.2" not in only


def test_the_printed_paths_build_a_dataset(root):
    from mmpanoptic.datasets import MapillaryPanopticDataset

    data = MapillaryPanopticDataset(
        "validation/v2.0/panoptic/panoptic_2020.json",
        data_root=str(root),
        data_prefix={"img": "validation/images/", "seg": "validation/v2.0/panoptic/"},
        pipeline=[{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}],
    )
    item = data[1]
    assert item["img"].shape == (2, 4, 3)
    assert item["gt_seg_map"].tolist() == [[0, 1, 1, 2], [0, 1, 3, 2]]
    assert data.metainfo["name"] == "mapillary_panoptic"
    assert data.metainfo["classes"] == ("object--car", "nature--sky")


def test_semantic_maps_have_contiguous_labels(root):
    assert call(root, "--semantic", "--nproc", 2)[0] == 0
    path = root / "training" / "semantic" / "aa.png"
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    # Category 1 (value 0) is the second of the list; values 2 and 65 have no category.
    assert values.tolist() == [[255, 1, 1, 0], [255, 1, 0, 0]]
    before = contents(root)
    text = call(root, "--semantic", "--nproc", 1)[1]
    assert text.count("(0 converted now)") == 3
    assert contents(root) == before


def test_other_commands_find_the_pngs(root):
    path = root / "training" / "panoptic" / "panoptic_2018.json"
    assert tool.call("check", path)[0] == 0
    assert tool.call("cache_panoptic", path)[0] == 0
    assert (root / "training" / "panoptic.runs").is_file()


def test_all_missing_files_are_listed(root):
    (root / "training" / "images" / "aa.jpg").unlink()
    (root / "validation" / "v2.0" / "panoptic" / "bb.png").unlink()
    status, _, error = call(root)
    assert status == 1
    assert "aa.jpg" in error
    assert "bb.png" in error


def test_deep_checks_decode(root):
    path = root / "training" / "panoptic" / "bb.png"
    path.write_bytes(encode_panoptic_png(np.full((2, 4), 300)))
    assert call(root)[0] == 0
    status, _, error = call(root, "--deep")
    assert status == 1
    assert "wrong_area" in error


def test_an_empty_folder_is_explained(tmp_path):
    status, _, error = call(tmp_path)
    assert status == 1
    assert "panoptic_2018.json" in error
    make(tmp_path, "training", "1.2", nested=False)
    assert "no such split or version" in call(tmp_path, "--version", "2.0")[2]


def test_missing_label_maps_are_named(root):
    for path in (root / "training" / "labels").iterdir():
        path.unlink()
    assert "no label maps" in call(root, "--semantic")[2]
