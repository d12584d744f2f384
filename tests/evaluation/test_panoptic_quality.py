from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from mmpanoptic.evaluation import (
    Categories,
    accumulate,
    match_segments,
    panoptic_quality,
    summarize,
)
from mmpanoptic.evaluation.panoptic_checks import ProblemLog, ground_truth_map, prediction_map
from mmpanoptic.structures import flat_runs
from tests.reference import panoptic_quality as reference
from tests.reference.panoptic_maps import CATEGORIES, THINGS, annotate, draw_map, perturb_map

TABLE = Categories(
    tuple(category["id"] for category in CATEGORIES),
    tuple(category["name"] for category in CATEGORIES),
    tuple(bool(category["isthing"]) for category in CATEGORIES),
)
Image = tuple[np.ndarray, list[dict[str, Any]], np.ndarray, list[dict[str, Any]]]


def match(image: Image):
    problems = ProblemLog()
    gt = ground_truth_map(flat_runs(image[0]), image[1], TABLE, problems)
    pred = prediction_map(flat_runs(image[2]), image[3], TABLE, problems)
    assert not problems.errors
    return match_segments(gt, pred)


def evaluate(images: list[Image]):
    return summarize(accumulate(map(match, images), len(TABLE.ids)), TABLE)


def oracle(images: list[Image]) -> tuple[dict, dict]:
    stats = reference.new_statistics()
    for image in images:
        reference.image_statistics(*image, stats)
    return reference.averages(stats, CATEGORIES), {
        k: v for k, v in stats.items() if any(v.values())
    }


def drawn_image(rng: np.random.Generator) -> Image:
    height, width = rng.integers(2, 90, 2).tolist()
    index, categories = draw_map(rng, height, width, rng.integers(1, 7), rng.integers(0, 12))
    ids, info = annotate(rng, index, categories)
    moved, guesses = perturb_map(rng, index, categories)
    return ids, info, moved, [{"id": k, "category_id": c} for k, c in enumerate(guesses, 1)]


def noise_image(rng: np.random.Generator) -> Image:
    """Make unrelated small maps: blocks of random ids, few categories, void and crowds."""

    def draw() -> tuple[np.ndarray, list[dict[str, Any]]]:
        coarse = rng.integers(0, 5, (3, 4))
        index = np.kron(coarse, np.ones((2, 2), np.int32))[: rng.integers(2, 7)]
        return annotate(rng, index, rng.choice(THINGS[:2], 4).tolist())

    (ids, info), (pred, pred_info) = draw(), draw()
    size = min(len(ids), len(pred))
    info = [{**s, "iscrowd": int(rng.random() < 0.3)} for s in info]
    pred = np.where(rng.random(pred.shape) < 0.1, 0, pred)[:size]
    ids = ids[:size]
    for segment in info:
        segment["area"] = int((ids == segment["id"]).sum())
    listed = [s for s in pred_info if (pred == s["id"]).any()]
    return ids, info, pred, listed


def assert_same_bits(ours, averages: dict, stats: dict) -> None:
    assert ours.per_category_stats == stats
    for group, values in averages.items():
        for key, value in values.items():
            ours_value = ours.averages[group][key]
            assert ours_value == value or (math.isnan(ours_value) and math.isnan(value))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("draw", [drawn_image, noise_image])
def test_random_maps_have_the_bits_of_the_plain_procedure(draw, seed):
    rng = np.random.default_rng(seed)
    images = [draw(rng) for _ in range(10 if draw is drawn_image else 60)]
    averages, stats = oracle(images)
    assert sum(part["tp"] for part in stats.values()) > 0
    assert_same_bits(evaluate(images), averages, stats)


def test_sorted_codes_serve_maps_with_very_many_segments(monkeypatch):
    rng = np.random.default_rng(0)
    images = [drawn_image(rng) for _ in range(4)]
    dense = evaluate(images)
    monkeypatch.setattr(panoptic_quality, "_DENSE_PAIRS", 3)
    assert evaluate(images) == dense


def test_ten_thousand_one_pixel_segments_fit_into_memory():
    ids = np.arange(1, 10001, dtype=np.int32).reshape(100, 100)
    info = [
        {"id": k, "category_id": THINGS[k % 3], "area": 1, "iscrowd": 0} for k in range(1, 10001)
    ]
    quality = evaluate([(ids, info, ids, info)])
    assert quality.averages["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 3}


@pytest.mark.parametrize("seed", range(5))
def test_ground_truth_as_prediction_is_perfect(seed):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(5):
        ids, info, *_ = drawn_image(rng)
        images.append((ids, info, ids, info))
    everything = evaluate(images).averages["All"]
    assert (everything["pq"], everything["sq"], everything["rq"]) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_names_and_order_of_predicted_segments_change_no_bit(seed):
    rng = np.random.default_rng(seed)
    images = [drawn_image(rng) for _ in range(6)]
    renamed = []
    for ids, info, pred, listed in images:
        new = rng.permutation(1 << 20)[: len(listed)] + 1
        table = np.array([0, *new], np.int32)
        names = [{**s, "id": int(new[s["id"] - 1])} for s in listed]
        random.Random(seed).shuffle(names)
        renamed.append((ids, info, table[pred], names))
    assert evaluate(renamed) == evaluate(images)


def test_order_preserving_renaming_of_the_ground_truth_changes_no_bit():
    rng = np.random.default_rng(0)
    images = [drawn_image(rng) for _ in range(6)]
    renamed = []
    for ids, info, pred, listed in images:
        keys = np.array(sorted(segment["id"] for segment in info))
        place = {key: 3 * k + 1 for k, key in enumerate(keys.tolist())}
        table = np.array([0, *place.values()], np.int32)
        new_ids = np.where(ids > 0, table[np.searchsorted(keys, ids) + 1], 0)
        new_info = [{**s, "id": place[s["id"]]} for s in info]
        random.Random(0).shuffle(new_info)
        renamed.append((new_ids, new_info, pred, listed))
    assert evaluate(renamed) == evaluate(images)


def test_another_order_of_images_changes_no_count_and_at_most_the_last_bit():
    rng = np.random.default_rng(0)
    images = [drawn_image(rng) for _ in range(20)]
    one, other = evaluate(images), evaluate(images[::-1])
    for group, values in one.averages.items():
        assert other.averages[group] == pytest.approx(values, rel=1e-14)
    for key, values in one.per_category_stats.items():
        assert other.per_category_stats[key] == pytest.approx(values, rel=1e-14)


def test_exactly_one_half_is_no_match_and_exactly_half_void_is_wrong():
    ids = np.array([[7, 7, 7, 0, 0, 0]], np.int32)
    info = [{"id": 7, "category_id": THINGS[0], "area": 3, "iscrowd": 0}]
    pred = np.array([[1, 1, 2, 2, 3, 0]], np.int32)  # IoU 2/3; half void; all void
    listed = [{"id": k, "category_id": THINGS[0]} for k in (1, 2, 3)]
    stats = evaluate([(ids, info, pred, listed)]).per_category_stats[THINGS[0]]
    assert stats == {"iou": 2 / 3, "tp": 1, "fp": 1, "fn": 0}
    half = np.array([[0, 1, 1, 1, 0, 0]], np.int32) * 1
    half[0, 3] = 0
    ids = np.array([[7, 7, 7, 7, 0, 0]], np.int32)
    info[0]["area"] = 4
    stats = evaluate([(ids, info, half, listed[:1])]).per_category_stats[THINGS[0]]
    assert stats == {"iou": 0.0, "tp": 0, "fp": 1, "fn": 1}


def test_predicted_void_stays_in_the_area_of_the_ground_truth():
    ids = np.array([[7] * 10], np.int32)
    info = [{"id": 7, "category_id": THINGS[0], "area": 10, "iscrowd": 0}]
    pred = np.array([[1] * 6 + [0] * 4], np.int32)
    stats = evaluate([(ids, info, pred, [{"id": 1, "category_id": THINGS[0]}])])
    assert stats.per_category_stats[THINGS[0]]["iou"] == 0.6


def test_crowds_excuse_predictions_of_their_own_category_only():
    ids = np.array([[9, 9, 9, 9]], np.int32)
    info = [{"id": 9, "category_id": THINGS[0], "area": 4, "iscrowd": 1}]
    pred = np.array([[1, 1, 2, 2]], np.int32)
    listed = [{"id": 1, "category_id": THINGS[0]}, {"id": 2, "category_id": THINGS[1]}]
    stats = evaluate([(ids, info, pred, listed)]).per_category_stats
    assert stats == {THINGS[1]: {"iou": 0.0, "tp": 0, "fp": 1, "fn": 0}}


def test_empty_groups_are_nan():
    empty = evaluate([])
    for group in ("All", "Things", "Stuff"):
        assert empty.averages[group]["n"] == 0
        assert math.isnan(empty.averages[group]["pq"])
    assert set(empty.per_class) == set(TABLE.ids)


def test_runs_are_kept_in_little_memory():
    rng = np.random.default_rng(0)
    index, categories = draw_map(rng, 480, 640, 7, 7)
    ids, info = annotate(rng, index, categories)
    truth = ground_truth_map(flat_runs(ids), info, TABLE, ProblemLog())
    assert truth.nbytes < 40_000
    np.testing.assert_array_equal(truth.ids[truth.expand()], ids)
