import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.cityscapes import (
    panoptic_segments,
    to_instance_train_ids,
    train_id_table,
)
from mmpanoptic.datasets.converters.cityscapes_polygons import draw_maps
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from mmpanoptic.utils.format_errors import PanopticFormatError

from . import tool
from .tool import contents

CARAVAN = 29001


def call(*args):
    return tool.call("cityscapes", *args)


@pytest.fixture
def root(tmp_path):
    return make(tmp_path / "cityscapes")


def make(root):
    """Two cities with two images each, 8 x 12 pixels."""
    rng = np.random.default_rng(0)
    for city in ("ulm", "bad-city"):
        for frame in (19, 20):
            stem = f"{city}_000000_0000{frame}"
            instances = rng.choice([7, 11, 24, 24000, 24001, 26000, CARAVAN, 3], (8, 12))
            labels = np.where(instances >= 1000, instances // 1000, instances)
            save(root / "gtFine/val" / city / f"{stem}_gtFine_instanceIds.png", instances, "u2")
            save(root / "gtFine/val" / city / f"{stem}_gtFine_labelIds.png", labels, "u1")
            image = rng.integers(0, 256, (8, 12, 3))
            save(root / "leftImg8bit/val" / city / f"{stem}_leftImg8bit.png", image, "u1")
    return root


def save(path, values, dtype):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values.astype(dtype))


def test_the_label_list_is_whole():
    assert [label.id for label in CITYSCAPES_LABELS] == [*range(34)]
    evaluated = [label for label in CITYSCAPES_LABELS if not label.ignored]
    assert [label.train_id for label in evaluated] == list(range(19))
    assert sum(label.has_instances for label in evaluated) == 8
    table = train_id_table()
    assert table[[7, 33, 29, 0, 200, 255]].tolist() == [0, 18, 255, 255, 255, 255]


def test_instance_train_ids_keep_groups_and_drop_what_is_not_evaluated():
    ids = np.array([[7, 26, 26001, CARAVAN, 29, 0]], np.uint16)
    assert to_instance_train_ids(ids).tolist() == [[0, 13, 13001, 255, 255, 255]]


def test_groups_are_crowd_and_caravans_are_void():
    ids = np.array([[7, 26, 26001, CARAVAN]], np.uint16)
    segments = panoptic_segments(ids)
    assert [(s["id"], s["category_id"], s["iscrowd"]) for s in segments] == [
        (7, 7, 0),
        (26, 26, 1),
        (26001, 26, 0),
    ]


def test_mmdets_call_makes_everything_and_a_second_one_nothing(root):
    out = root / "somewhere"
    status, text, _ = call(root, "--nproc", 2, "--out-dir", out)
    assert status == 0
    content = json.loads((out / "instancesonly_filtered_gtFine_val.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    assert names == sorted(names)
    assert len(names) == 4
    assert names[0] == "bad-city/bad-city_000000_000019_leftImg8bit.png"
    before = contents(root)
    assert not [name for name in before if "/." in name and ".conversion." not in name]
    assert not [name for name in before if ".part" in name]
    status, text, _ = call(root, "--nproc", 2, "--out-dir", out)
    assert status == 0
    assert text.count("(0 converted now)") == 5
    assert contents(root) == before


def test_image_names_are_paths_that_exist(root):
    assert call(root, "--only", "panoptic")[0] == 0
    content = json.loads((root / "gtFine" / "cityscapes_panoptic_val.json").read_text())
    for image in content["images"]:
        assert (root / "leftImg8bit/val" / image["file_name"]).exists()


def test_the_number_of_processes_changes_nothing(root):
    other = root.with_name("other")
    shutil.copytree(root, other)
    assert call(root, "--nproc", 1)[0] == 0
    assert call(other, "--nproc", 2)[0] == 0
    assert contents(root) == contents(other)


def test_a_changed_source_is_converted_again(root):
    call(root)
    source = next((root / "gtFine/val/ulm").glob("*_instanceIds.png"))
    os.utime(source)
    assert call(root)[1].count("(0 converted now)") == 5
    ids = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    ids[0, 0] = 7
    cv2.imwrite(str(source), ids)
    text = call(root)[1]
    assert "instanceTrainIds val: 4 images (1 converted now)" in text
    assert "cityscapes_panoptic_val: 4 images (1 converted now)" in text
    assert "labelTrainIds val: 4 images (0 converted now)" in text


def test_the_layout_of_efficientps(root):
    out = root / "layout"
    args = (root, "--only", "train_ids", "--layout", "efficientps", "--layout-dir", out)
    assert call(*args)[0] == 0
    content = json.loads((out / "annotations" / "val.json").read_text())
    assert [c["id"] for c in content["categories"]] == list(range(11, 19))
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4]
    for image in content["images"]:
        stem = image["file_name"][:-4]
        city = stem.split("_")[0]
        copied = (out / "val" / image["file_name"]).read_bytes()
        original = root / "leftImg8bit/val" / city / f"{stem}_leftImg8bit.png"
        assert copied == original.read_bytes()
        semantic = cv2.imread(str(out / "stuffthingmaps/val" / image["file_name"]), -1)
        train = root / "gtFine/val" / city / f"{stem}_gtFine_labelTrainIds.png"
        assert np.array_equal(semantic, cv2.imread(str(train), -1))
    assert {a["category_id"] for a in content["annotations"]} == {11, 13}


def test_the_layout_needs_images(root):
    shutil.rmtree(root / "leftImg8bit")
    assert call(root)[0] == 0
    status, _, error = call(root, "--layout", "efficientps")
    assert status == 1
    assert "leftImg8bit_trainvaltest.zip" in error


def test_an_empty_folder_is_explained(tmp_path):
    status, _, error = call(tmp_path)
    assert status == 1
    assert "gtFine_trainvaltest.zip" in error
    assert "Traceback" not in error


def test_a_broken_map_is_named(root):
    path = next((root / "gtFine/val/ulm").glob("*_instanceIds.png"))
    path.write_bytes(path.read_bytes()[:60])
    status, _, error = call(root, "--nproc", 2)
    assert status == 1
    assert path.name in error
    assert "corrupt_png" in error


def test_maps_are_drawn_where_they_are_missing(root):
    for path in (root / "gtFine").rglob("*Ids.png"):
        polygons = path.with_name(path.name.split("_gtFine")[0] + "_gtFine_polygons.json")
        square = [[2, 2], [5, 2], [5, 5], [2, 5]]
        content = {"imgWidth": 12, "imgHeight": 8, "objects": [{"label": "car", "polygon": square}]}
        polygons.write_text(json.dumps(content))
        path.unlink()
    assert call(root)[0] == 1
    assert call(root, "--from-polygons")[0] == 0
    content = json.loads((root / "gtFine/cityscapes_panoptic_val.json").read_text())
    segments = [a["segments_info"] for a in content["annotations"]]
    assert [len(s) for s in segments] == [1] * 4
    assert segments[0][0] == {
        "id": 26000,
        "category_id": 26,
        "iscrowd": 0,
        "area": 16,
        "bbox": [2, 2, 4, 4],
    }


def polygons(*objects):
    square = [[0, 0], [1, 0], [1, 1], [0, 1]]
    return {
        "imgWidth": 4,
        "imgHeight": 4,
        "objects": [{"label": label, "polygon": square, **extra} for label, extra in objects],
    }


def test_instances_are_numbered_with_those_that_end_up_hidden():
    content = polygons(("car", {}), ("person", {}), ("car", {}), ("car", {"deleted": 1}))
    labels, instances = draw_maps(content, Path("x.json"))
    assert labels[0, 0] == 26
    assert instances[0, 0] == 26001


def test_groups_have_no_number_and_license_plates_are_not_drawn():
    content = polygons(("cargroup", {}), ("license plate", {}), ("license plategroup", {}))
    labels, instances = draw_maps(content, Path("x.json"))
    assert labels[0, 0] == instances[0, 0] == 26


def test_deleted_false_is_drawn():
    assert draw_maps(polygons(("car", {"deleted": 0})), Path("x.json"))[0][0, 0] == 26


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (polygons(("flying saucer", {})), "unknown_category"),
        (polygons(("car", {"polygon": [[1, 1]]})), "bad_field"),
        ({"imgWidth": 4, "objects": []}, "missing_field"),
    ],
)
def test_bad_polygon_files_are_named(content, kind):
    with pytest.raises(PanopticFormatError, match=r"x\.json") as caught:
        draw_maps(content, Path("x.json"))
    assert caught.value.kind == kind
