import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.ade20k import ade20k_segments
from mmpanoptic.datasets.label_sets_ade20k import (
    ADE20K_CLASSES,
    FLAVOURS,
    ade20k_table,
    category_id,
)
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from . import tool
from .tool import contents

WALL, SKY, BED, PERSON = 1, 3, 8, 13  # scene-parsing values
SEMANTIC = np.array([[WALL, WALL, SKY, 0], [BED, PERSON, SKY, 0]], np.uint8)
# Class and number of the instance: bed 2 covers the sky, person 1 stands in "other".
INSTANCES = np.array([[[0, 0], [0, 0], [1, 2], [4, 1]], [[0, 0], [4, 7], [1, 2], [0, 0]]], np.uint8)


def save(root, split="training", semantic=SEMANTIC, instances=INSTANCES, name="ADE_train_00000001"):
    color = np.stack([np.zeros_like(instances[..., 0]), instances[..., 1], instances[..., 0]], 2)
    for folder, values in (("annotations", semantic), ("annotations_instance", color)):
        path = root / folder / split / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), values)


@pytest.fixture
def root(tmp_path):
    return make(tmp_path)


def make(root):
    for k in range(1, 4):
        save(root, name=f"ADE_train_0000000{k}")
    save(root, "validation", name="ADE_val_00000001")
    return root


def call(root, *args):
    return tool.call("ade20k", root, *args)


def load(path):
    return json.loads(path.read_text())


def test_instances_cover_stuff_and_things_without_one_are_void(root):
    assert call(root)[0] == 0
    content = load(root / "ade20k_panoptic_train.json")
    assert content["images"][0] == {
        "id": "ADE_train_00000001",
        "file_name": "ADE_train_00000001.jpg",
        "height": 2,
        "width": 4,
    }
    ids = read_panoptic_png(root / "ade20k_panoptic_train" / "ADE_train_00000001.png")
    assert ids.tolist() == [[1, 1, 3, 2], [0, 4, 3, 0]]
    segments = content["annotations"][0]["segments_info"]
    assert [(s["category_id"], s["area"], s["bbox"]) for s in segments] == [
        (100, 2, [0, 0, 2, 1]),
        (3, 1, [3, 0, 1, 1]),
        (0, 2, [2, 0, 1, 2]),
        (3, 1, [1, 1, 1, 1]),
    ]
    assert tool.call("check", root / "ade20k_panoptic_train.json")[0] == 0


def test_published_areas_keep_covered_stuff():
    segments = ade20k_segments(SEMANTIC, INSTANCES, "scenic", True, Path("x"))[1]
    assert [(s["category_id"], s["area"]) for s in segments] == [
        (WALL, 2),
        (SKY, 2),
        (PERSON, 1),
        (BED, 2),
        (PERSON, 1),
    ]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_tables_have_150_classes(flavour):
    table = ade20k_table(flavour)
    assert (table.num_things, table.num_stuff) == (100, 50)
    assert table.dataset_ids.tolist() == list(
        range(flavour == "scenic", 150 + (flavour == "scenic"))
    )
    assert table.by_name("airplane" if flavour == "mmdet" else "plane").isthing


def test_an_unknown_flavour_is_refused():
    with pytest.raises(ValueError, match="unknown flavour 'coco'"):
        category_id(ADE20K_CLASSES[0], "coco")


def test_a_second_run_does_nothing_whatever_nproc(root):
    everything = ("--only", "panoptic", "instances", "semantic")
    assert call(root, *everything, "--nproc", 2)[0] == 0
    before = contents(root)
    text = call(root, *everything, "--nproc", 1)[1]
    assert text.count("(0 converted now)") == 6
    assert contents(root) == before
    (root / "ade20k_panoptic_train" / "ADE_train_00000002.png").unlink()
    assert "3 images (1 converted now)" in call(root)[1]
    assert contents(root) == before


def test_semantic_maps_start_at_zero(root):
    call(root, "--only", "semantic")
    path = root / "annotations_detectron2" / "validation" / "ADE_val_00000001.png"
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values.tolist() == [[0, 0, 2, 255], [7, 12, 2, 255]]


def test_flavours_do_not_overwrite_each_other(root):
    assert call(root)[0] == 0
    before = contents(root)
    status, _, error = call(root, "--flavour", "mask2former")
    assert status == 1
    assert "mmdet, wanted mask2former" in error
    assert contents(root) == before
    assert call(root, "--flavour", "mask2former", "--out-dir", root / "m2f")[0] == 0


def test_files_of_other_programs_are_kept(root):
    (root / "ade20k_panoptic_train.json").write_text('{"images": []}')
    status, _, error = call(root)
    assert status == 1
    assert "another program" in error


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"semantic": np.full((2, 4), 151, np.uint8)}, "unknown_category"),
        ({"semantic": np.zeros((4, 2), np.uint8)}, "size_mismatch"),
        ({"instances": np.full((2, 4, 2), 101, np.uint8)}, "unknown_category"),
        ({"instances": np.where(INSTANCES == 7, 1, INSTANCES)}, None),
        ({"instances": np.where(INSTANCES == 2, 1, INSTANCES)}, "bad_field"),
    ],
)
def test_bad_maps_are_named(root, changes, kind):
    save(root, name="ADE_train_00000002", **changes)
    status, _, error = call(root)
    assert status == (1 if kind else 0)
    if kind:
        assert kind in error
        assert "ADE_train_00000002.png" in error


def test_missing_instance_maps_are_listed(root):
    for path in (root / "annotations_instance" / "training").iterdir():
        path.unlink()
    error = call(root)[2]
    assert error.count("[missing_file]") == 3
    shutil.rmtree(root / "annotations_instance")
    assert "annotations_instance.tar" in call(root)[2]


def test_an_empty_folder_is_explained(tmp_path):
    assert "ADEChallengeData2016.zip" in call(tmp_path)[2]


def test_a_grey_instance_map_is_refused(root):
    path = root / "annotations_instance" / "training" / "ADE_train_00000002.png"
    cv2.imwrite(str(path), INSTANCES[..., 0])
    assert "bad_png_mode" in call(root)[2]


def test_an_instance_has_one_class():
    bad = INSTANCES.copy()
    bad[0, 3] = (2, 2)
    with pytest.raises(PanopticFormatError, match="instance 2 has two classes, 1 and 2"):
        ade20k_segments(SEMANTIC, bad, "mmdet", False, Path("x.png"))
