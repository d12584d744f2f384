"""The models in the package, on images drawn here and on the validation images of nuclei260."""

import csv
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.apis import PanopticInferencer, find_config, init_model, list_shipped_models
from mmpanoptic.checkpoints import CheckpointError, load_checkpoint
from mmpanoptic.checkpoints.shipped_models import get_shipped_model, is_shipped_model
from mmpanoptic.commands import infer, test
from mmpanoptic.commands.dataset_converters import own_data
from mmpanoptic.utils import read_json
from mmpanoptic.utils.panoptic_png import read_panoptic_png

ROOT = Path(__file__).resolve().parents[2]
NUCLEI = Path(
    os.environ.get("MMPANOPTIC_NUCLEI260") or ROOT.parent / "shared" / "data" / "nuclei260"
)
needs_nuclei = pytest.mark.skipif(
    not NUCLEI.exists(), reason="set MMPANOPTIC_NUCLEI260 to the folder of the microscope images"
)


@pytest.fixture(scope="module")
def inferencer():
    return PanopticInferencer("nuclei", device="cpu")


def draw_blobs(seed, count=14, side=256, gain=1.0):
    """Bright, slightly blurred discs on black, and the map of their numbers."""
    rng = np.random.default_rng(seed)
    image, truth = np.zeros((side, side), np.float32), np.zeros((side, side), np.int32)
    places = rng.permutation([(y, x) for y in range(28, side, 50) for x in range(28, side, 50)])
    for number, (y, x) in enumerate(places[:count], 1):
        axes = rng.integers(7, 13, 2).tolist()
        disc = np.zeros((side, side), np.uint8)
        cv2.ellipse(disc, (int(x), int(y)), axes, float(rng.integers(180)), 0, 360, 1, -1)
        truth[disc > 0] = number
        image[disc > 0] = rng.uniform(90, 160)
    image = cv2.GaussianBlur(image, (0, 0), 1.0) + rng.normal(6, 1.5, image.shape)
    grey = np.clip(image * gain, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), truth


def quality_of_things(truth, ids):
    """Panoptic quality of one class, by definition."""
    matched, total = 0, 0.0
    predicted = [value for value in np.unique(ids) if value]
    for number in range(1, truth.max() + 1):
        for value in predicted:
            both = np.count_nonzero((truth == number) & (ids == value))
            union = np.count_nonzero((truth == number) | (ids == value))
            if 2 * both > union:
                matched, total = matched + 1, total + both / union
    return total / (matched + (truth.max() - matched) / 2 + (len(predicted) - matched) / 2)


def nuclei_of(result):
    nuclei = [s["id"] for s in result.segments_info if s["name"] == "nucleus"]
    return np.where(np.isin(result.panoptic_seg, nuclei), result.panoptic_seg, 0)


@pytest.mark.parametrize(("seed", "gain"), [(0, 1.0), (1, 0.5), (2, 1.5)])
def test_drawn_nuclei_are_found_and_outlined(inferencer, seed, gain):
    image, truth = draw_blobs(seed, gain=gain)
    ids = nuclei_of(inferencer(image)[0])
    assert abs(len(np.unique(ids)) - 1 - 14) <= 1
    assert quality_of_things(truth, ids) > 0.75


def test_an_image_without_nuclei_has_none(inferencer):
    noise = np.random.default_rng(0).normal(8, 1, (128, 128, 1)).clip(0, 255)
    result = inferencer(noise.astype(np.uint8).repeat(3, axis=2))[0]
    assert (nuclei_of(result) > 0).mean() < 0.05


def test_two_runs_give_the_same_bits(inferencer):
    image, _ = draw_blobs(3)
    again = PanopticInferencer("nuclei", device="cpu")(image)[0]
    first = inferencer(image)[0]
    np.testing.assert_array_equal(first.panoptic_seg, again.panoptic_seg)
    assert first.segments_info == again.segments_info


@pytest.mark.parametrize("name", list_shipped_models())
def test_every_shipped_model_is_small_and_has_a_whole_card(name):
    model = get_shipped_model(name)
    assert model.weights.stat().st_size <= 6e6
    content = load_checkpoint(model.weights)  # sealed, weights only
    meta = content["meta"]
    assert not {"optimizer", "random_states", "message_hub"} & content.keys()
    card = model.card
    assert "CC0" in card["data"]["licence"]
    assert {"task", "data", "training", "metrics", "limits"} <= card.keys()
    assert find_config(name) == find_config(card["config"])
    assert list(meta["dataset_meta"]["classes"]) == list(card["classes"])
    things = [card["classes"][c] == "thing" for c in meta["dataset_meta"]["classes"]]
    assert list(meta["dataset_meta"]["isthing"]) == things
    assert meta["seed"] == card["training"]["seed"]
    assert meta["iter"] == card["training"]["iterations"]
    assert model.name in model.describe()


def test_weights_load_without_any_data_and_a_checkpoint_of_ones_own_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = init_model("nuclei", device="cpu")
    assert model.dataset_meta["classes"] == ("nucleus", "background")
    assert Path(model.checkpoint) == get_shipped_model("nuclei").weights
    with pytest.raises(CheckpointError, match=r"no checkpoint other\.pth"):
        init_model("nuclei", "other.pth")


def test_a_file_of_the_name_comes_first_and_wrong_names_are_answered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_shipped_model("nuclei")
    (tmp_path / "nuclei").mkdir()
    assert not is_shipped_model("nuclei")
    with pytest.raises(CheckpointError, match="did you mean nuclei"):
        get_shipped_model("nucleus")


def test_the_command_takes_images_and_the_model_s_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", draw_blobs(0)[0])
    cv2.imwrite("b.png", draw_blobs(1)[0])
    assert infer.main(["a.png", "b.png", "--model", "nuclei", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "2 images done, 0 left out" in printed.out
    assert "nuclei: Finds every nucleus" in printed.out + printed.err
    assert infer.main(["--model", "nuclei", "a.png", "--device", "cpu", "--out-dir", "o"]) == 0
    ids = [read_panoptic_png(Path(out, "panoptic", "a.png")) for out in ("outputs", "o")]
    np.testing.assert_array_equal(*ids)
    assert infer.main(["a.png", "--model", "nucleus"]) == 1
    assert "did you mean nuclei" in capsys.readouterr().err
    assert infer.main(["--model", "nuclei"]) == 2
    assert "name images" in capsys.readouterr().err
    assert infer.main([]) == 2


@pytest.mark.slow
@needs_nuclei
def test_quality_on_the_validation_images_is_that_of_the_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open(NUCLEI / "stage1_subset.tar.gz") as archive:
        for member in archive:
            archive.extract(member, tmp_path, filter="data")
    with open(NUCLEI / "index.csv", newline="") as file:
        rows = [row["image_id"] for row in csv.DictReader(file) if row["split"] == "val"]
    Path("val.txt").write_text("\n".join(rows))
    labels = ["--images", "stage1_train", "--masks", "stage1_train", "--background", "background"]
    classes = str(ROOT / "docs" / "class_lists" / "nuclei.yaml")
    split = ["--split-list", "val=val.txt"]
    assert own_data.main(["data/nuclei", "--classes", classes, *labels, *split]) == 0
    paths = [f"{name}_img={tmp_path}/stage1_train/" for name in ("train", "val")]
    options = ["--cfg-options", "data_root=data/nuclei", *paths, "num_workers=0"]
    tables = []
    for number in range(2):
        assert test.main(["nuclei", "--per-image", f"{number}.csv", *options]) == 0
        tables.append(Path(f"{number}.csv").read_text())
    assert tables[0] == tables[1]  # bit-equal
    found = read_json(next(Path("work_dirs").rglob("metrics.json")))
    for name, value in get_shipped_model("nuclei").card["metrics"].items():
        if name.startswith("PQ"):
            assert found[f"coco_panoptic/{name}"] == pytest.approx(value, abs=0.3)
