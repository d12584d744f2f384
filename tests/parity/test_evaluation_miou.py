"""mIoU against the values that the reference programs gave."""

import json

import numpy as np
import pytest

from mmpanoptic.evaluation.semantic_iou import confusion_matrix, semantic_scores
from tests.golden import golden_files

DEFINITION_OF = {
    "mmseg": "mmseg",
    "detectron2": "detectron2",
    "panoptic_deeplab_repo": "panoptic_deeplab",
}
VALUE_OF = {
    "mIoU": "mIoU",
    "fwIoU": "fwIoU",
    "mAcc": "mAcc",
    "mACC": "mAcc",
    "aAcc": "aAcc",
    "pACC": "aAcc",
}
FOLDERS = [path.parent for path in golden_files("evaluation", "miou*/labels.npz")]


def load(folder):
    expected = json.loads((folder / "expected.json").read_text())
    with np.load(folder / "labels.npz") as maps:
        truth, prediction = maps["gt"].astype(np.int64), maps["pred"]
    truth[truth == expected["ignore_index"]] = -1
    return expected, confusion_matrix(truth, prediction, expected["num_classes"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_counts_are_equal(folder):
    expected, matrix = load(folder)
    counts = np.array(expected["confusion_gt_rows_pred_columns"])
    assert matrix.dtype == np.int64
    assert np.array_equal(matrix[:, :-1], counts)


@pytest.mark.parametrize("source", sorted(DEFINITION_OF))
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_definitions_give_the_values_of_their_programs(folder, source):
    expected, matrix = load(folder)
    formulas = expected["formulas"][source]
    scores = semantic_scores(matrix, DEFINITION_OF[source])
    values = scores.averages()
    compared = [key for key in formulas if key in VALUE_OF]
    assert "mIoU" in compared
    for key in compared:
        assert values[VALUE_OF[key]] == pytest.approx(formulas[key], abs=1e-12), key
    for key, found in (("IoU", scores.iou), ("Acc", scores.accuracy)):
        if key in formulas:
            numbers = np.array(formulas[key], float)  # None becomes nan
            np.testing.assert_allclose(found, numbers, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_the_rounded_output_of_mmseg_is_near(folder):
    expected, matrix = load(folder)
    values = semantic_scores(matrix, "mmseg").averages()
    for key in ("aAcc", "mIoU", "mAcc"):
        assert 100 * values[key] == pytest.approx(expected["mmseg_IoUMetric_output"][key], abs=5e-3)
