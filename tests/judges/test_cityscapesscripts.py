"""cityscapesScripts as the judge of our Cityscapes metrics and converter."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.cityscapes import CityscapesFolders, convert_cityscapes
from mmpanoptic.datasets.converters.cityscapes_polygons import draw_polygons
from mmpanoptic.evaluation import evaluate_files
from mmpanoptic.evaluation.cityscapes_files import (
    evaluate_instance_files,
    evaluate_pixel_files,
    write_instances,
    write_semantic,
)
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from mmpanoptic.utils.label_png import read_label_png
from mmpanoptic.utils.panoptic_png import encode_panoptic_png, read_panoptic_png
from tests.evaluation.cityscapes_data import random_scene, write_truth
from tests.golden import golden_files

pytest.importorskip("cityscapesscripts")

from tests.judges import cityscapes_judge as judge

GOLDEN = golden_files("evaluation", "cityscapes_mini/gtFine/val/*/*_polygons.json")
THINGS = [label.id for label in CITYSCAPES_LABELS if label.has_instances and not label.ignored]


@pytest.fixture(scope="module", params=range(3))
def made(request, tmp_path_factory):
    """A made Cityscapes in the official layout, converted, with predictions of every kind."""
    root = tmp_path_factory.mktemp("city")
    rng = np.random.default_rng(request.param)
    for number in range(4):
        image_id = f"{('ulm', 'bad-city')[number % 2]}_{number:06d}_000019"
        labels, instances = random_scene(rng, (60 + number, 90))
        write_truth(root, image_id, labels, instances)
        write_semantic(root / "semantic", image_id, disturbed(rng, labels).astype(np.uint8))
        masks, ids, scores = guesses(rng, instances)
        write_instances(root / "instance", image_id, masks, ids, scores)
    folders = CityscapesFolders(
        root, root / "leftImg8bit", root / "gtFine", root / "annotations", root / "gtFine"
    )
    convert_cityscapes(folders, ["panoptic", "train_ids"], ["val"], historical_names=True)
    predict_panoptic(rng, root)
    return root


def disturbed(rng, labels):
    """Move the borders and replace a part by other labels."""
    moved = np.roll(labels, rng.integers(-2, 3, 2), (0, 1))
    y, x = rng.integers(0, 40, 2)
    moved[y : y + 12, x : x + 15] = rng.integers(0, len(CITYSCAPES_LABELS))
    return moved


def guesses(rng, instances):
    """Instances shifted by different amounts, doubled, and some out of nothing."""
    masks, ids, scores = [], [], []
    for value in np.unique(instances[instances >= 1000]):
        for _ in range(rng.integers(0, 3)):
            masks.append(np.roll(instances == value, rng.integers(-3, 4, 2), (0, 1)))
            ids.append(int(value // 1000) if rng.random() < 0.8 else int(rng.choice(THINGS)))
            scores.append(round(float(rng.random()), 2))  # ties
    for _ in range(3):
        mask = np.zeros(instances.shape, bool)
        y, x = rng.integers(0, 40, 2)
        mask[y : y + 15, x : x + 20] = True
        masks.append(mask)
        ids.append(int(rng.choice(THINGS)))
        scores.append(round(float(rng.random()), 2))
    return masks, ids, scores


def predict_panoptic(rng, root):
    """The panoptic truth shifted, some segments left out, written as a result."""
    gt = read_json(root / "gtFine" / "cityscapes_panoptic_val.json")
    (root / "panoptic").mkdir()
    for entry in gt["annotations"]:
        ids = read_panoptic_png(root / "gtFine" / "cityscapes_panoptic_val" / entry["file_name"])
        ids = np.roll(ids, rng.integers(-2, 3, 2), (0, 1))
        ids[np.isin(ids, rng.choice(np.unique(ids), 2))] = 0
        (root / "panoptic" / entry["file_name"]).write_bytes(encode_panoptic_png(ids))
        present = set(np.unique(ids).tolist())
        entry["segments_info"] = [s for s in entry["segments_info"] if s["id"] in present]
    write_json(root / "panoptic.json", gt)


def assert_equal(ours, theirs, exact=True):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if np.isnan(value):
            assert np.isnan(ours[name]), name
        else:
            assert ours[name] == pytest.approx(value, abs=0 if exact else 1e-12), name


def test_pixel_level(made):
    expected = judge.pixel_level(made / "gtFine/val", made / "semantic")
    scores, counts = evaluate_pixel_files(made / "gtFine/val", made / "semantic", 1)
    assert counts.matrix.tolist() == np.asarray(expected["confMatrix"]).tolist()
    assert_equal(scores.class_iou, expected["classScores"])
    assert_equal(scores.class_iiou, expected["classInstScores"], exact=False)
    assert_equal(scores.category_iou, expected["categoryScores"])
    assert_equal(scores.category_iiou, expected["categoryInstScores"], exact=False)
    assert scores.means()["mIoU"] == pytest.approx(expected["averageScoreClasses"], abs=1e-12)


def test_instance_level(made, tmp_path):
    expected, stopped = judge.instance_level(made / "gtFine/val", made / "instance", tmp_path)
    scores = evaluate_instance_files(made / "gtFine/val", made / "instance", 1)
    means = scores.means()
    assert means["AP"] == pytest.approx(expected["allAp"], abs=1e-12)
    assert means["AP50"] == pytest.approx(expected["allAp50%"], abs=1e-12)
    for key, ours in (("ap", scores.class_ap), ("ap50%", scores.class_ap50)):
        theirs = {name: float(value[key]) for name, value in expected["classes"].items()}
        assert_equal(ours, theirs, exact=False)
        assert all(ours[name] == 0 for name in stopped)
    assert 0 < means["AP"] < 1


def test_panoptic_level(made):
    gt, prediction = made / "gtFine/cityscapes_panoptic_val.json", made / "panoptic.json"
    expected = judge.panoptic_level(gt, prediction)
    found = evaluate_files(gt, prediction).quality
    for name in ("All", "Things", "Stuff"):
        ours = {k: found.averages[name][k] for k in ("pq", "sq", "rq")}
        assert ours == {k: expected[name][k] for k in ("pq", "sq", "rq")}
    assert 0.05 < found.averages["All"]["pq"] < 0.95


@pytest.mark.parametrize("train_ids", [False, True])
def test_panoptic_images(made, tmp_path, train_ids):
    name = "cityscapes_panoptic_val" + "_trainId" * train_ids
    judge.make_panoptic(made / "gtFine", tmp_path / "theirs", train_ids)
    ours, theirs = made / "gtFine" / name, tmp_path / "theirs" / name
    content = read_json(ours.with_suffix(".json"))
    content.pop("info")
    assert content == json.loads(theirs.with_suffix(".json").read_text())
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for file in names:
        assert (cv2.imread(str(ours / file)) == cv2.imread(str(theirs / file))).all()


@pytest.mark.parametrize("polygons", GOLDEN, ids=lambda p: p.name.split("_gtFine")[0])
def test_label_maps_of_polygons(polygons, tmp_path):
    """Ours come from the label ids, which are drawn here with the same Pillow as theirs."""
    folder = tmp_path / "gtFine" / "val" / polygons.parent.name
    folder.mkdir(parents=True)
    shutil.copy(polygons, folder)
    folders = CityscapesFolders(
        tmp_path,
        tmp_path / "leftImg8bit",
        tmp_path / "gtFine",
        tmp_path / "out",
        tmp_path / "gtFine",
    )
    draw_polygons(folders, "val")
    convert_cityscapes(folders, ["train_ids"], ["val"])
    judge.draw_train_ids(polygons, tmp_path / "theirs.png")
    (ours,) = folder.glob("*_labelTrainIds.png")
    assert (read_label_png(ours) == read_label_png(tmp_path / "theirs.png")).all()
