"""A metric of one's own; docs/tutorials/own_metric.md walks through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmpanoptic.evaluation import IndexedMetric
from mmpanoptic.registry import METRICS


@METRICS.register_module()
class CountErrorMetric(IndexedMetric):
    """How far the number of things of an image is from the annotated one, on average.

    Args:
        **options: Arguments of :class:`mmpanoptic.evaluation.IndexedMetric`.
    """

    default_prefix = "count"

    def __init__(self, **options: Any) -> None:
        super().__init__(False, None, **options)  # it writes no files

    def make_record(self, sample: Mapping[str, Any]) -> dict[int, int]:
        """Count what is found too often (above 0) or too seldom, by label; small and picklable."""
        isthing = [label.isthing for label in self.label_table]
        predicted = sample["pred_panoptic_seg"]["segments_info"]
        found = Counter(s["label"] for s in predicted if isthing[s["label"]])
        # a crowd is a heap whose things nobody counted
        counted = [s for s in sample["segments_info"] if not s["iscrowd"]]
        truth = Counter(s["label"] for s in counted if isthing[s["label"]])
        return {label: found[label] - truth[label] for label in found.keys() | truth.keys()}

    def summarize(self, records: list[dict[int, int]]) -> dict[str, float]:
        """Average over the images, in the order of the dataset.

        Args:
            records (list): One per image, whatever number of processes made them.

        Returns:
            dict[str, float]: ``error`` (all things of an image together) and ``error_NAME``.
        """
        images = max(len(records), 1)
        metrics = {"error": sum(abs(sum(record.values())) for record in records) / images}
        for label in self.label_table:
            if label.isthing:
                errors = [abs(record.get(label.index, 0)) for record in records]
                metrics[f"error_{label.name}"] = sum(errors) / images
        return metrics
