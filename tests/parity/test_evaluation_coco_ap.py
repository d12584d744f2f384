"""COCO AP against pycocotools 2.0.11: the twelve numbers, and AP per category."""

import json

import numpy as np
import pytest

from mmpanoptic.evaluation.coco_ap import evaluate_coco_ap
from tests.golden import golden_files

CASES = [
    pytest.param(path.parent, case, id=f"{path.parent.name}-{case}")
    for path in golden_files("evaluation", "coco_ap*/expected.json")
    for case, content in json.loads(path.read_text()).items()
    if isinstance(content, dict)
]
BACKENDS = ["pycocotools", pytest.param("faster-coco-eval", marks=pytest.mark.optional)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("folder", "case"), CASES)
def test_numbers_are_those_of_pycocotools(folder, case, backend):
    expected = json.loads((folder / "expected.json").read_text())[case]
    truth = json.loads((folder / expected["gt"]).read_text())
    detections = json.loads((folder / expected["dt"]).read_text())
    scores = evaluate_coco_ap(truth, detections, expected["iou_type"], backend)
    assert_equal(scores.statistics, expected["stats"])
    assert {str(key) for key in scores.per_category} == set(expected["per_category"])
    for key, values in scores.per_category.items():
        assert_equal(values, expected["per_category"][str(key)])


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        if value is None or value == -1:
            assert np.isnan(found[key]), key
        else:
            assert found[key] == pytest.approx(value, abs=1e-12), key
