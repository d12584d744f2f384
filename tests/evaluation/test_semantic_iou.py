import numpy as np
import pytest

from mmpanoptic.evaluation.semantic_counts import SparseCounts, add_counts
from mmpanoptic.evaluation.semantic_iou import (
    DEFINITIONS,
    check_definitions,
    confusion_matrix,
    semantic_scores,
    semantic_table,
)


def matrix_of(truth, prediction, num_classes=3):
    return confusion_matrix(np.array([truth]), np.array([prediction]), num_classes)


def test_counts_rows_of_truth_and_columns_of_prediction_with_void_last():
    matrix = matrix_of([0, 0, 1, 255, -1], [0, 1, 255, 0, 0])
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_counts_do_not_depend_on_the_type(dtype):
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 200, (2, 50, 60))
    expected = np.zeros((150, 151), int)
    for t, p in zip(truth.ravel(), prediction.ravel(), strict=True):
        if t < 150:
            expected[t, min(p, 150)] += 1
    found = confusion_matrix(truth.astype(dtype), prediction.astype(dtype), 150)
    assert np.array_equal(found, expected)


def test_counts_stay_exact_beyond_float32():
    part = SparseCounts.from_dense(np.array([[2**24 + 1, 0]]))
    total = add_counts([part, SparseCounts(np.array([0]), np.array([2]))], (1, 2))
    assert total.tolist() == [[2**24 + 3, 0]]


def test_definitions_differ_by_classes_that_are_only_predicted():
    matrix = matrix_of([0, 0, 1, 1], [0, 0, 1, 2])
    means = {name: semantic_scores(matrix, name).mean_iou for name in DEFINITIONS}
    assert means == {"mmseg": 0.5, "cityscapes": 0.5, "panoptic_deeplab": 0.5, "detectron2": 0.75}


def test_definitions_differ_by_void_predictions():
    matrix = matrix_of([0, 0, 1, 1], [0, 0, 1, 255])
    means = {name: semantic_scores(matrix, name).mean_iou for name in DEFINITIONS}
    assert means == {"mmseg": 0.75, "cityscapes": 0.75, "panoptic_deeplab": 1.0, "detectron2": 1.0}
    assert semantic_scores(matrix, "mmseg").pixel_accuracy == 0.75


def test_frequencies_weigh():
    scores = semantic_scores(matrix_of([0, 0, 0, 1], [0, 0, 0, 0]))
    assert scores.iou[:2].tolist() == [0.75, 0.0]
    assert scores.weighted_iou == 0.75 * 0.75
    assert scores.mean_accuracy == 0.5


def test_nothing_to_evaluate_gives_nan():
    scores = semantic_scores(matrix_of([255], [0]))
    assert all(np.isnan(value) for value in scores.averages().values())


@pytest.mark.parametrize("names", [["iou"], []])
def test_unknown_definitions_are_refused(names):
    with pytest.raises(ValueError, match="known: mmseg, cityscapes, detectron2"):
        check_definitions(names)


def test_table_shows_absent_classes_as_a_dash():
    table = semantic_table(semantic_scores(matrix_of([0, 0], [0, 1])), ["a", "b", "c"], "mmseg")
    assert "| c     |     - |     - |" in table
    assert "| mean  | 25.00 | 50.00 |" in table
