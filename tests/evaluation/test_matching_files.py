from pathlib import Path

import numpy as np
import pytest

from mmpanoptic.evaluation.matching_files import list_files, match_predictions, require_same_size


def test_sizes_are_compared_without_broadcasting():
    with pytest.raises(ValueError, match="b has 1 rows and 3 columns, but a has 2 and 3"):
        require_same_size(np.zeros((2, 3)), np.zeros((1, 3)), "a", "b")


def test_listing_says_what_it_did_not_find(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        list_files(tmp_path / "nowhere", ".png")
    with pytest.raises(FileNotFoundError, match=r"holds no file whose name ends in \.png"):
        list_files(tmp_path, ".png")


def test_files_go_to_the_image_with_the_longest_fitting_id():
    files = [Path(name) for name in ("a_1.png", "a_1_2_pred.png", "a_10.png", "other.png")]
    found = match_predictions(["a_1", "a_1_2", "a_10"], files, ".png")
    assert [found[key].name for key in ("a_1", "a_1_2", "a_10")] == [
        "a_1.png",
        "a_1_2_pred.png",
        "a_10.png",
    ]


def test_missing_predictions_are_listed():
    with pytest.raises(ValueError, match=r"2 of 3 images have no prediction named .*: b, c"):
        match_predictions(["a", "b", "c"], [Path("a.png")], ".png")


def test_several_predictions_are_listed():
    with pytest.raises(ValueError, match=r"a has x/a\.png, y/a\.png\. Keep one"):
        match_predictions(["a"], [Path("x/a.png"), Path("y/a.png")], ".png")
