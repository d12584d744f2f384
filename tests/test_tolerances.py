"""Tests of what compares numbers with golden ones."""

import json

import numpy as np
import pytest
import torch

from tests import tolerances
from tests.parity.measure_rounding import rows
from tests.tolerances import Detections, RoundingError, check, check_classes, check_set

SPREAD = 1e-5


@pytest.fixture(autouse=True)
def table(monkeypatch):
    spreads = {"largest": SPREAD, "rms": SPREAD / 10}
    known = dict.fromkeys(("q", "q_boxes", "q_scores"), spreads)
    known["exact"] = {"largest": 0.0, "rms": 0.0}
    monkeypatch.setattr(tolerances, "table", lambda: known)


def test_four_times_the_spread_of_the_largest_value_is_allowed():
    expected = np.array([[1.0, -200.0], [0.0, 3.0]])
    check("q", expected + 0.99 * 4 * SPREAD * 200, expected)
    with pytest.raises(RoundingError, match=r"some file: off by 4\.04e-05 \(largest") as info:
        check("q", torch.from_numpy(expected + 1.01 * 4 * SPREAD * 200), expected, "some file")
    assert info.value.excess == pytest.approx(1.01)


def test_equal_settings_leave_some_units_in_the_last_place():
    check("exact", 1 + 4 * 4 * 2.0**-23 * 0.99, 1.0)
    with pytest.raises(RoundingError):
        check("exact", 1 + 4 * 4 * 2.0**-23 * 1.01, 1.0)


def test_a_small_mistake_in_many_numbers_is_found_by_their_mean():
    expected = np.random.RandomState(0).standard_normal(10000)
    one = expected.copy()
    one[0] += 3.9 * SPREAD * np.abs(expected).max()
    check("q", one, expected)
    check("q", expected[:200] * (1 + SPREAD), expected[:200])
    with pytest.raises(RoundingError, match="rms"):
        check("q", expected * (1 + SPREAD), expected)


def test_what_is_not_finite_must_be_equal():
    expected = np.array([np.inf, 1.0, np.nan])
    check("q", expected.copy(), expected)
    for wrong in ([1.0, 1.0, np.nan], [-np.inf, 1.0, np.nan], [np.inf, np.nan, np.nan]):
        with pytest.raises(AssertionError):
            check("q", np.array(wrong), expected)


def test_zeros_must_be_zeros_and_shapes_equal():
    check("q", np.zeros(3), np.zeros(3))
    check("q", np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(RoundingError):
        check("q", np.full(3, 1e-30), np.zeros(3))
    with pytest.raises(AssertionError, match=r"shape \(3,\), expected \(1, 3\)"):
        check("q", np.zeros(3), np.zeros((1, 3)))


def test_a_quantity_that_was_never_measured_is_an_error():
    with pytest.raises(KeyError, match="measure-rounding"):
        check("unknown", 1.0, 1.0)


def test_a_class_may_differ_where_its_logit_ties():
    logits = np.array([[10.0, 5.0], [10.0 - 7 * SPREAD * 10, -3.0]])
    check_classes("q", logits, [1, 0])
    with pytest.raises(RoundingError, match="golden class"):
        check_classes("q", logits - [[0, 0], [2 * SPREAD * 10, 0]], [1, 0])


def detections(count, seed=0):
    rng = np.random.RandomState(seed)
    return Detections(rng.uniform(0, 100, (count, 4)), rng.rand(count), rng.randint(0, 5, count))


def test_sets_have_no_order():
    golden, order = detections(40), np.random.RandomState(1).permutation(40)
    ours = Detections(*(values[order] for values in golden))
    partner = check_set("q", ours, golden)
    np.testing.assert_array_equal(order[partner], np.arange(40))


@pytest.mark.parametrize(
    ("count", "wrong", "allowed"), [(40, 1, True), (40, 2, False), (300, 3, True), (1, 1, False)]
)
def test_one_in_a_hundred_of_a_set_and_one_at_least_may_lack_its_partner(count, wrong, allowed):
    golden = detections(count)
    boxes = golden.boxes.copy()
    boxes[:wrong] += 1
    ours = golden._replace(boxes=boxes)
    if allowed:
        assert (check_set("q", ours, golden) < 0).sum() == wrong
    else:
        with pytest.raises(RoundingError, match=f"{wrong} have no partner"):
            check_set("q", ours, golden)


@pytest.mark.parametrize("field", ["boxes", "scores", "labels"])
def test_each_part_of_a_detection_counts(field):
    golden = detections(40)
    wrong = {
        "boxes": golden.boxes + 0.1,
        "scores": golden.scores + 1e-3,
        "labels": golden.labels + 1,
    }
    with pytest.raises(RoundingError):
        check_set("q", golden._replace(**{field: wrong[field]}), golden)


def test_too_many_detections_are_found_too():
    golden = detections(40)
    ours = Detections(*(np.concatenate([values, values[:2]]) for values in golden))
    with pytest.raises(RoundingError):
        check_set("q", ours, golden)


def test_the_readme_shows_the_table():
    content = json.loads(tolerances.TABLE.read_text())
    readme = tolerances.TABLE.with_name("README.md").read_text()
    assert readme.endswith("\n".join(rows(content)) + "\n")
