"""Cityscapes' pixel and instance level against cityscapesScripts 2.3.0."""

import json

import numpy as np
import pytest

from mmpanoptic.evaluation import CityscapesInstanceMetric, CityscapesPixelMetric
from mmpanoptic.evaluation.cityscapes_files import evaluate_instance_files, evaluate_pixel_files
from mmpanoptic.evaluation.cityscapes_instance import INSTANCE_LABELS, THRESHOLDS
from mmpanoptic.evaluation.semantic_iou import semantic_scores
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from tests.evaluation.cityscapes_data import METAINFO, golden_samples
from tests.golden import golden_files

FOLDERS = [
    path.parent.parent
    for path in golden_files("evaluation", "cityscapes_mini*/predictions/expected.json")
]
pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)


def expected_of(folder, level):
    return json.loads((folder / "predictions" / "expected.json").read_text())[level]


def assert_scores(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if value is None:
            assert np.isnan(found[name]), name
        else:
            assert found[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("nproc", [1, 2])
def test_pixel_level_of_files(folder, nproc):
    expected = expected_of(folder, "pixel")
    scores, counts = evaluate_pixel_files(
        folder / "gtFine" / "val", folder / "predictions" / "semantic", nproc
    )
    assert counts.matrix.tolist() == expected["confMatrix"]
    assert_scores(scores.class_iou, expected["classScores"])
    assert_scores(scores.class_iiou, expected["classInstScores"])
    assert_scores(scores.category_iou, expected["categoryScores"])
    assert_scores(scores.category_iiou, expected["categoryInstScores"])
    means = {
        "mIoU": expected["averageScoreClasses"],
        "iIoU": expected["averageScoreInstClasses"],
        "category_mIoU": expected["averageScoreCategories"],
        "category_iIoU": expected["averageScoreInstCategories"],
    }
    assert_scores(scores.means(), means)


@pytest.mark.parametrize("nproc", [1, 2])
def test_instance_level_of_files(folder, nproc):
    expected = expected_of(folder, "instance")
    scores = evaluate_instance_files(
        folder / "gtFine" / "val", folder / "predictions" / "instance", nproc
    )
    assert [label.name for label in INSTANCE_LABELS] == expected["instLabels"]
    assert THRESHOLDS.tolist() == expected["overlaps"]
    matrix = np.array(expected["resultApMatrix"][0], float)
    np.testing.assert_allclose(scores.matrix, matrix, rtol=0, atol=1e-12, equal_nan=True)
    averages = expected["averages"]
    assert_scores(scores.means(), {"AP": averages["allAp"], "AP50": averages["allAp50%"]})
    assert_scores(scores.class_ap, {k: v["ap"] for k, v in averages["classes"].items()})
    assert_scores(scores.class_ap50, {k: v["ap50%"] for k, v in averages["classes"].items()})


def test_pixel_metric_in_memory(folder):
    """The predictions lose their ignored labels on the way: they become unlabeled, as misses."""
    expected = expected_of(folder, "pixel")
    metric = CityscapesPixelMetric()
    metric.dataset_meta = METAINFO
    samples = golden_samples(folder)
    metric.process(None, samples[::-1])
    metrics = metric.evaluate(len(samples))
    reduced = np.array(expected["confMatrix"])
    ignored = [label.id for label in CITYSCAPES_LABELS if label.ignored]
    assert reduced[:, ignored].any(), "the case must have such predictions"
    value = metrics["cityscapes_pixel/mIoU"]
    assert value == pytest.approx(100 * expected["averageScoreClasses"], abs=1e-10)
    # A caravan that is predicted as caravan is right for the category, which needs all labels.
    assert metrics["cityscapes_pixel/iIoU"] == pytest.approx(
        100 * expected["averageScoreInstClasses"], abs=1e-10
    )
    assert metrics["cityscapes_pixel/category_mIoU"] == pytest.approx(
        100 * expected["averageScoreCategories"], abs=1e-10
    )


def test_instance_metric_in_memory(folder):
    expected = expected_of(folder, "instance")["averages"]
    metric = CityscapesInstanceMetric()
    metric.dataset_meta = METAINFO
    samples = golden_samples(folder)
    metric.process(None, samples[::-1])
    metrics = metric.evaluate(len(samples))
    assert metrics["cityscapes_instance/AP"] == pytest.approx(100 * expected["allAp"], abs=1e-10)
    assert metrics["cityscapes_instance/AP50"] == pytest.approx(
        100 * expected["allAp50%"], abs=1e-10
    )


def test_the_cityscapes_definition_of_miou_is_the_pixel_level(folder):
    expected = expected_of(folder, "pixel")
    full = np.array(expected["confMatrix"])
    kept = [label.id for label in CITYSCAPES_LABELS if not label.ignored]
    ignored = [label.id for label in CITYSCAPES_LABELS if label.ignored]
    void = full[np.ix_(kept, ignored)].sum(1, keepdims=True)
    matrix = np.concatenate([full[np.ix_(kept, kept)], void], axis=1)
    mean = semantic_scores(matrix, "cityscapes").mean_iou
    assert mean == pytest.approx(expected["averageScoreClasses"], abs=1e-12)
