import numpy as np
import pytest

from mmpanoptic.evaluation.cityscapes_pixel import (
    MEAN_INSTANCE_SIZE,
    count_pixels,
    pixel_scores,
    pixel_tables,
    sum_pixel_counts,
)
from tests.evaluation.cityscapes_data import random_scene
from tests.reference.cityscapes_levels import class_iou

ROAD, CAR, TRUCK, CARAVAN, UNLABELED = 7, 26, 27, 29, 0


def scores_of(labels, instances, prediction):
    maps = [np.array([row]) for row in (labels, instances, prediction)]
    return pixel_scores(count_pixels(*maps))


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_direct_implementation(seed):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(3):
        labels, instances = random_scene(rng)
        other, _ = random_scene(rng)
        images.append((labels, instances, np.where(rng.random(labels.shape) < 0.6, labels, other)))
    counts = sum_pixel_counts([count_pixels(*image) for image in images])
    scores = pixel_scores(counts)
    for found, weighted in ((scores.class_iou, False), (scores.class_iiou, True)):
        expected = class_iou(images, weighted)
        for name, value in found.items():
            assert value == pytest.approx(expected.get(name, np.nan), abs=1e-12, nan_ok=True)


def test_perfect_predictions_score_one():
    labels, instances = random_scene(np.random.default_rng(3))
    means = pixel_scores(count_pixels(labels, instances, labels)).means()
    assert set(means.values()) == {1.0}


def test_void_predictions_are_misses_and_void_truth_is_nothing():
    scores = scores_of([ROAD, ROAD, UNLABELED], [ROAD, ROAD, UNLABELED], [ROAD, UNLABELED, ROAD])
    assert scores.class_iou["road"] == 0.5


def test_small_instances_weigh_more():
    labels, instances = [CAR] * 4, [26001, 26002, 26002, 26002]
    missed_small = scores_of(labels, instances, [ROAD, CAR, CAR, CAR])
    assert missed_small.class_iou["car"] == 0.75
    assert missed_small.class_iiou["car"] == pytest.approx(0.5)


def test_false_positives_of_iiou_have_no_weight():
    scores = scores_of([CAR, ROAD], [26001, ROAD], [CAR, CAR])
    weight = MEAN_INSTANCE_SIZE["car"]
    assert scores.class_iiou["car"] == pytest.approx(weight / (weight + 1))


def test_a_category_forgives_confusion_inside_and_takes_its_ignored_labels():
    scores = scores_of([CAR, CAR], [26001, 26001], [TRUCK, CARAVAN])
    assert scores.category_iiou["vehicle"] == 1.0
    assert scores.category_iou["vehicle"] == 0.5  # not so without weights
    assert scores.class_iou["car"] == 0.0


def test_absent_classes_are_left_out_of_the_means():
    scores = scores_of([ROAD], [ROAD], [ROAD])
    assert np.isnan(scores.class_iou["car"])
    assert scores.means()["mIoU"] == 1.0
    assert np.isnan(scores.means()["iIoU"])


def test_train_ids_are_refused():
    with pytest.raises(ValueError, match=r"the prediction holds the value 255.*road is 7"):
        scores_of([ROAD], [ROAD], [255])


def test_other_instance_values_are_refused():
    with pytest.raises(ValueError, match="the instance map holds the label 65"):
        scores_of([ROAD], [65000], [ROAD])


def test_the_sum_over_no_images_is_nothing():
    assert np.isnan(pixel_scores(sum_pixel_counts([])).means()["mIoU"])


def test_tables_show_classes_and_categories():
    table = pixel_tables(scores_of([ROAD, CAR], [ROAD, 26001], [ROAD, CAR]))
    assert "| road          | 100.00 |" in table
    assert "| vehicle      | 100.00 | 100.00 |" in table
