import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.shapes import (
    SHAPES_TABLE,
    ShapesSettings,
    generate_shapes,
    generator,
    make_scene,
)
from mmpanoptic.utils.panoptic_png import read_panoptic_png

SETTINGS = ShapesSettings(64, 48, seed=3)
COUNTS = {"train": 5, "val": 3}


@pytest.fixture
def root(tmp_path):
    generate_shapes(tmp_path / "a set", COUNTS, SETTINGS)
    return tmp_path / "a set"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load(root, name):
    return json.loads((root / "annotations" / f"{name}.json").read_text())


def test_files_are_those_of_coco_panoptic_format(root):
    for split, count in COUNTS.items():
        panoptic = load(root, f"panoptic_{split}")
        assert len(panoptic["images"]) == len(panoptic["annotations"]) == count
        assert [c["id"] for c in panoptic["categories"]] == SHAPES_TABLE.dataset_ids.tolist()
        for index, (image, annotation) in enumerate(
            zip(panoptic["images"], panoptic["annotations"], strict=True)
        ):
            assert image["id"] == annotation["image_id"] == index + 1
            pixels = cv2.imread(str(root / split / image["file_name"]))
            assert pixels.shape == (48, 64, 3) == (image["height"], image["width"], 3)
            ids = read_panoptic_png(
                root / "annotations" / f"panoptic_{split}" / annotation["file_name"]
            )
            scene = make_scene(SETTINGS, split, index)
            assert np.array_equal(ids, scene.ids)
            assert annotation["segments_info"] == scene.segments


def test_instances_are_the_amodal_masks(root):
    from pycocotools import mask as coco_mask

    instances = load(root, "instances_train")
    assert all(category["isthing"] for category in instances["categories"])
    ids = [annotation["id"] for annotation in instances["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    for index in range(COUNTS["train"]):
        scene = make_scene(SETTINGS, "train", index)
        mine = [a for a in instances["annotations"] if a["image_id"] == index + 1]
        assert [a["depth"] for a in mine] == list(range(1, len(mine) + 1))
        assert [a["segment_id"] for a in mine] == [s["id"] for s in scene.mask_segments]
        for annotation, mask in zip(mine, scene.masks, strict=True):
            assert isinstance(annotation["segmentation"]["counts"], str)
            assert np.array_equal(coco_mask.decode(annotation["segmentation"]), mask)
            assert annotation["area"] == mask.sum()
            expected = coco_mask.toBbox(annotation["segmentation"])
            assert annotation["bbox"] == expected.tolist()


def test_pycocotools_reads_the_instances(root):
    from pycocotools.coco import COCO

    coco = COCO(str(root / "annotations" / "instances_val.json"))
    assert len(coco.getImgIds()) == COUNTS["val"]
    assert all(coco.annToMask(a).any() for a in coco.anns.values())


def test_the_number_of_processes_changes_nothing(root, tmp_path):
    generate_shapes(tmp_path / "b", COUNTS, SETTINGS, nproc=2)
    assert contents(tmp_path / "b") == contents(root)


def test_nothing_is_left_over(root):
    assert not [name for name in contents(root) if "/." in name or name.startswith(".")]
    assert not (root / "annotations" / ".records").exists()


def test_a_second_run_draws_only_what_is_missing(root):
    before = contents(root)
    assert [report.drawn for report in generate_shapes(root, COUNTS, SETTINGS)] == [0, 0]
    (root / "train" / "000002.jpg").unlink()
    (root / "annotations" / "panoptic_train" / "000004.png").unlink()
    assert [report.drawn for report in generate_shapes(root, COUNTS, SETTINGS)] == [2, 0]
    assert contents(root) == before


def test_a_stopped_run_goes_on(root, tmp_path, monkeypatch):
    other = tmp_path / "stopped"
    make_image = generator._make_image

    def stop_at_three(root, settings, split, index):
        if index == 3:
            raise KeyboardInterrupt
        make_image(root, settings, split, index)

    monkeypatch.setattr(generator, "_make_image", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        generate_shapes(other, COUNTS, SETTINGS)
    assert not (other / "annotations" / "panoptic_train.json").exists()
    monkeypatch.undo()
    assert [report.drawn for report in generate_shapes(other, COUNTS, SETTINGS)] == [2, 3]
    assert contents(other) == contents(root)


def test_a_set_can_grow_and_its_images_stay(root):
    before = contents(root)
    reports = generate_shapes(root, {"train": 7, "val": 3}, SETTINGS)
    assert [report.drawn for report in reports] == [2, 0]
    after = contents(root)
    assert all(after[name] == data for name, data in before.items() if "train.json" not in name)
    assert len(load(root, "panoptic_train")["images"]) == 7


@pytest.mark.parametrize("other", [ShapesSettings(64, 48, seed=4), ShapesSettings(48, 64, seed=3)])
def test_sets_of_different_settings_do_not_mix(root, other):
    before = contents(root)
    with pytest.raises(ValueError, match="belongs to another dataset"):
        generate_shapes(root, COUNTS, other)
    assert contents(root) == before


@pytest.mark.parametrize(
    ("counts", "nproc", "message"),
    [({"test": 1}, 1, "unknown split"), ({"train": 0}, 1, "at least 1"), ({"val": 1}, 0, "nproc")],
)
def test_bad_arguments_are_named(tmp_path, counts, nproc, message):
    with pytest.raises(ValueError, match=message):
        generate_shapes(tmp_path, counts, SETTINGS, nproc)


def test_processes_at_work_in_one_folder_wait_for_each_other(root, tmp_path):
    code = (
        "from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes; import sys; "
        f"generate_shapes(sys.argv[1], {COUNTS}, {SETTINGS})"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "b")], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in both:
        error = process.communicate()[1]
        assert process.returncode == 0, error
    assert contents(tmp_path / "b") == contents(root)
