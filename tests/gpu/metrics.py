"""Every metric with predictions to give to it from any device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpanoptic import evaluation
from tests.evaluation import (
    test_cityscapes_metric,
    test_class_metric,
    test_coco_metric,
    test_panoptic_metric,
    test_semantic_metric,
)
from tests.evaluation.panoptic_data import write_file_set

ALL = {name for name in evaluation.__all__ if name.endswith("Metric")} - {"IndexedMetric"}


def cases(folder: Path) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each metric and samples with their predictions on the CPU.

    Args:
        folder (Path): Receives the ground truth.
    """
    files = write_file_set(folder / "panoptic", test_panoptic_metric.SIZES)
    samples = [files.sample(number) for number in range(test_panoptic_metric.NUM_IMAGES)]
    yield test_panoptic_metric.make_metric(), samples
    yield test_semantic_metric.make_metric(), test_semantic_metric.write_samples(folder)
    for kind in ("CityscapesPixelMetric", "CityscapesInstanceMetric"):
        samples = test_cityscapes_metric.write_samples(folder / kind)
        yield test_cityscapes_metric.make_metric(kind), samples
    truth = str(test_coco_metric.write_truth(folder / "instances.json"))
    yield test_coco_metric.make_metric(ann_file=truth), test_coco_metric.make_samples(shift=1)
    scores = [[0.1, 0.7, 0.2], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]]
    labelled = enumerate(zip([1, 0, 2], scores, strict=True))
    samples = [test_class_metric.sample(number, *one) for number, one in labelled]
    yield test_class_metric.ClassAccuracyMetric(topk=(1, 2)), samples


def evaluate(metric: Any, samples: list[Any]) -> dict[str, str]:
    """Evaluate as texts, in which a missing figure equals itself."""
    metric.process(None, samples)
    return {name: repr(value) for name, value in metric.evaluate(len(samples)).items()}


def compare(folder: Path) -> dict[str, bool]:
    """Tell of each metric whether predictions on a GPU give the figures of those on the CPU."""
    equal = {}
    for metric, samples in cases(folder):
        there = [sample.to("cuda") for sample in samples]
        expected = evaluate(copy.deepcopy(metric), samples)
        equal[type(metric).__name__] = bool(expected) and evaluate(metric, there) == expected
    return equal
