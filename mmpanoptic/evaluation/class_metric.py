"""Accuracy of image classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpanoptic.registry import METRICS

from .indexed_metric import IndexedMetric


@METRICS.register_module()
class ClassAccuracyMetric(IndexedMetric):
    """Share of images whose class is among the k most likely ones, in percent.

    Args:
        topk (Sequence[int]): Values of k.
        **options: Arguments of :class:`IndexedMetric`.
    """

    default_prefix = "accuracy"

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        **options: Any,
    ) -> None:
        super().__init__(False, None, **options)  # it writes no files
        self.topk = tuple(topk)

    def make_record(self, sample: Mapping[str, Any]) -> int:
        """Tell how many classes the model prefers to the right one."""
        scores = sample["pred_scores"]
        return int((scores > scores[int(sample["gt_label"])]).sum())

    def summarize(self, records: list[int]) -> dict[str, float]:
        """Compute the accuracies.

        Args:
            records (list[int]): Rank of the right class of each image.

        Returns:
            dict[str, float]: ``top1``, ``top5``, ... in percent.
        """
        count = max(len(records), 1)
        return {f"top{k}": 100 * sum(rank < k for rank in records) / count for k in self.topk}
