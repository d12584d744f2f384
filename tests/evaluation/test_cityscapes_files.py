import cv2
import numpy as np
import pytest

from mmpanoptic.evaluation.cityscapes_files import (
    cityscapes_image_id,
    evaluate_instance_files,
    evaluate_pixel_files,
    read_instance_list,
    write_instances,
    write_semantic,
)
from tests.evaluation.cityscapes_data import random_scene, write_truth

IDS = ["a_000000_000019", "b_000000_000019"]


@pytest.fixture
def truth(tmp_path):
    rng = np.random.default_rng(0)
    maps = {}
    for image_id in IDS:
        maps[image_id] = random_scene(rng)
        write_truth(tmp_path, image_id, *maps[image_id])
    return tmp_path / "gtFine" / "val", maps


def test_perfect_files_score_one(truth, tmp_path):
    root, maps = truth
    for image_id, (labels, instances) in maps.items():
        write_semantic(tmp_path / "pred", image_id, labels.astype(np.uint8))
        values = [v for v in np.unique(instances) if v >= 24000]
        masks = [instances == value for value in values]
        ids = [int(value) // 1000 for value in values]
        write_instances(tmp_path / "pred", image_id, masks, ids, [1.0] * len(ids))
    # The masks are PNGs as well, so semantic predictions need a folder of their own.
    (tmp_path / "pred" / "masks").rename(tmp_path / "masks")
    scores, counts = evaluate_pixel_files(root, tmp_path / "pred")
    assert scores.means()["mIoU"] == 1.0
    assert counts.matrix.sum() == 2 * 60 * 90
    (tmp_path / "masks").rename(tmp_path / "pred" / "masks")
    assert evaluate_instance_files(root, tmp_path / "pred").means() == {"AP": 1.0, "AP50": 1.0}


def test_missing_predictions_are_named(truth, tmp_path):
    write_semantic(tmp_path / "pred", IDS[0], truth[1][IDS[0]][0].astype(np.uint8))
    with pytest.raises(ValueError, match=f"1 of 2 images have no prediction.*{IDS[1]}"):
        evaluate_pixel_files(truth[0], tmp_path / "pred")


def test_train_ids_name_the_file(truth, tmp_path):
    for image_id in IDS:
        write_semantic(tmp_path / "pred", image_id, np.full((60, 90), 255, np.uint8))
    with pytest.raises(ValueError, match=f"{IDS[0]}_pred_labelIds.png holds the value 255"):
        evaluate_pixel_files(truth[0], tmp_path / "pred")


def test_a_prediction_of_another_size_names_both_files(truth, tmp_path):
    for image_id in IDS:
        write_semantic(tmp_path / "pred", image_id, np.zeros((1, 90), np.uint8))
    with pytest.raises(ValueError, match=rf"{IDS[0]}_pred.* has 1 rows .*_labelIds\.png has 60"):
        evaluate_pixel_files(truth[0], tmp_path / "pred")


@pytest.mark.parametrize("line", ["a.png 26", "a.png car 0.5", "a.png 26 high"])
def test_wrong_lines_are_named(tmp_path, line):
    (tmp_path / "a.png").touch()
    (tmp_path / "p.txt").write_text(f"a.png 26 0.5\n\n{line}\n")
    with pytest.raises(ValueError, match=r"p\.txt, line 3: expected 'relative/mask\.png"):
        read_instance_list(tmp_path / "p.txt")


def test_missing_masks_are_named(tmp_path):
    (tmp_path / "p.txt").write_text("masks/a 1.png 26 0.5\n")
    with pytest.raises(FileNotFoundError, match=r"p\.txt, line 1: there is no mask .*a 1\.png"):
        read_instance_list(tmp_path / "p.txt")


def test_masks_of_another_size_name_the_files(truth, tmp_path):
    for image_id in IDS:
        write_instances(tmp_path / "pred", image_id, [np.ones((4, 4), bool)], [26], [0.5])
    with pytest.raises(ValueError, match=r"_000\.png has 4 rows .*instanceIds\.png has 60"):
        evaluate_instance_files(truth[0], tmp_path / "pred")


def test_scores_keep_every_bit(tmp_path):
    score = 0.1 + 0.2
    path = write_instances(tmp_path, IDS[0], [np.ones((4, 4), bool)], [26], [score])
    (entry,) = read_instance_list(path)
    assert entry.score == score
    assert cv2.imread(str(entry.mask), cv2.IMREAD_UNCHANGED).tolist() == [[255] * 4] * 4


@pytest.mark.parametrize(
    "path", ["leftImg8bit/val/a/a_1_2_leftImg8bit.png", "val/a_1_2.png", "a_1_2_leftImg8bit.jpg"]
)
def test_image_ids(path):
    assert cityscapes_image_id(path) == "a_1_2"


@pytest.mark.parametrize("name", ["../secret.png", "{tmp}/secret.png", "sub/../../secret.png"])
def test_masks_outside_the_predictions_are_not_read(tmp_path, name):
    (tmp_path / "secret.png").touch()
    folder = tmp_path / "pred"
    folder.mkdir()
    (folder / "p.txt").write_text(f"{name.format(tmp=tmp_path)} 26 0.5\n")
    with pytest.raises(ValueError, match=r"p\.txt, line 1: the mask .* leads out of .*pred"):
        read_instance_list(folder / "p.txt")


def test_masks_beside_the_folder_of_the_list_belong_to_the_predictions(tmp_path):
    for name in ("lists", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "masks" / "a.png").touch()
    (tmp_path / "lists" / "p.txt").write_text("../masks/a.png 26 0.5\n")
    assert len(read_instance_list(tmp_path / "lists" / "p.txt", tmp_path)) == 1
