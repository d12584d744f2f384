import numpy as np
import pytest

from mmpanoptic.evaluation.cityscapes_instance import (
    THRESHOLDS,
    average_precision,
    count_overlaps,
    instance_scores,
    instance_table,
)
from tests.evaluation.cityscapes_data import random_scene
from tests.reference.cityscapes_levels import class_ap

PERSON, CAR, CARAVAN = 24, 26, 29


def box(y, x, height, width, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def scene(*regions):
    instances = np.full((40, 60), 7)
    for value, mask in regions:
        instances[mask] = value
    return instances


def ap50(instances, masks, labels, scores, name="car"):
    counts = count_overlaps(instances, masks, labels, scores)
    return instance_scores([counts]).class_ap50[name]


def random_image(rng):
    _, instances = random_scene(rng)
    masks, labels = [], []
    for value in np.unique(instances):
        label = value // 1000 if value >= 1000 else value
        if label < 20:
            continue
        for _ in range(rng.integers(0, 4)):
            shift = rng.integers(-2, 3, 2)
            mask = np.roll(instances == value, shift, (0, 1)) & (rng.random(instances.shape) < 0.95)
            masks.append(mask)
            labels.append(int(label) if rng.random() < 0.9 else 24)
    masks.append(np.zeros(instances.shape, bool))
    labels.append(26)
    scores = np.round(rng.random(len(masks)), 1).tolist()  # with ties
    return instances, masks, labels, scores


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_direct_implementation(seed):
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(6)]
    found = instance_scores([count_overlaps(*image) for image in images]).matrix
    for row, threshold in enumerate(THRESHOLDS):
        expected = list(class_ap(images, threshold).values())
        np.testing.assert_allclose(found[:, row], expected, rtol=0, atol=1e-12, equal_nan=True)


def test_perfect_predictions_score_one():
    car = box(0, 0, 20, 20)
    assert ap50(scene((26001, car)), [car], [CAR], [0.3]) == 1.0


@pytest.mark.parametrize("scores", [[0.9, 0.6, 0.3], [0.6, 0.9, 0.3]])
def test_a_second_match_is_a_false_positive_with_the_lower_score(scores):
    car, other = box(0, 0, 20, 20), box(20, 20, 18, 18)
    masks = [car, box(0, 0, 20, 19), other]
    found = ap50(scene((26001, car), (26002, other)), masks, [CAR] * 3, scores)
    # points (precision, recall): (2/3, 1), (1/2, 1/2), (1, 1/2), (1, 0)
    assert found == pytest.approx(2 / 3 * 0.25 + 1 / 2 * 0.25 + 0.25 + 0.25)


def test_the_threshold_is_strict():
    car = box(0, 0, 20, 20)
    assert ap50(scene((26001, car)), [box(0, 0, 20, 10)], [CAR], [0.9]) == 0.0
    assert ap50(scene((26001, car)), [box(0, 0, 20, 11)], [CAR], [0.9]) == 1.0


@pytest.mark.parametrize(
    ("value", "punished"),
    [(0, False), (29, False), (29001, True), (26, False), (24, True), (7, True)],
    ids=["void", "caravan group", "caravan", "group", "group of others", "road"],
)
def test_predictions_on_ignored_regions_are_dropped(value, punished):
    car, rest = box(0, 0, 20, 20), box(20, 20, 18, 18)
    instances = scene((26001, car), (value, rest))
    assert (ap50(instances, [car, rest], [CAR, CAR], [0.5, 0.9]) < 1.0) == punished


def test_instances_below_100_pixels_need_not_be_found():
    car, small = box(0, 0, 20, 20), box(30, 30, 9, 11)
    instances = scene((26001, car), (26002, small))
    assert ap50(instances, [car], [CAR], [0.5]) == 1.0
    assert ap50(instances, [car, small], [CAR, CAR], [0.5, 0.9]) == 1.0


def test_a_class_without_predictions_has_zero_and_without_truth_nan():
    car = box(0, 0, 20, 20)
    instances = scene((26001, car))
    assert ap50(instances, [], [], []) == 0.0
    assert np.isnan(ap50(instances, [car], [PERSON], [0.5], "person"))


def test_a_class_whose_predictions_are_all_ignored_has_zero():
    void = box(20, 20, 18, 18)
    instances = scene((26001, box(0, 0, 20, 20)), (0, void))
    assert ap50(instances, [void], [CAR], [0.5]) == 0.0


def test_labels_without_evaluated_instances_and_empty_masks_are_skipped():
    car = box(0, 0, 20, 20)
    masks = [car, car, np.zeros_like(car)]
    counts = count_overlaps(scene((26001, car)), masks, [7, CARAVAN, CAR], [0.5, 0.5, 0.5])
    assert counts.label.tolist() == []


def test_scores_must_be_finite():
    with pytest.raises(ValueError, match="the score of prediction 1 is nan"):
        count_overlaps(scene(), [], [CAR, CAR], [0.5, float("nan")])


def test_masks_must_have_the_size_of_the_map():
    with pytest.raises(ValueError, match=r"mask 0 has the shape \(20, 20\)"):
        count_overlaps(scene(), [np.ones((20, 20), bool)], [CAR], [0.5])


def test_the_curve_has_one_point_per_score():
    score, correct = np.array([0.9, 0.5, 0.5]), np.array([True, False, True])
    # points (precision, recall): (2/3, 1), (1, 1/2), (1, 0)
    assert average_precision(score, correct, 0) == pytest.approx(2 / 3 * 0.25 + 0.5 + 0.25)


def test_no_images_give_nan():
    assert np.isnan(instance_scores([]).means()["AP"])


def test_table_shows_classes_and_the_mean():
    car = box(0, 0, 20, 20)
    counts = count_overlaps(scene((26001, car)), [car], [CAR], [0.5])
    table = instance_table(instance_scores([counts]))
    assert "| car        | 100.00 | 100.00 |" in table
    assert "| person     |      - |      - |" in table
