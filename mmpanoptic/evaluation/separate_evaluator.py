"""Results of each dataset of a concatenation."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import Evaluator

from mmpanoptic.registry import EVALUATOR, ConfigError


@EVALUATOR.register_module()
class SeparateEvaluator(Evaluator):
    """Evaluate each dataset of a ``ConcatDataset`` by itself.

    Differences from the original (``mmdet.MultiDatasetsEvaluator``): every metric sees the images
    of its dataset only, by their position; so the result does not depend on the number of
    processes, of which mmdet's needs one, or data that divide evenly.

    Args:
        metrics (dict | Sequence[dict]): Metrics for every dataset.
        dataset_prefixes (Sequence[str]): Names of the datasets, in front of the metrics' names.

    Raises:
        ConfigError: If there are not as many names as datasets.
    """

    def __init__(self, metrics: Any, dataset_prefixes: Sequence[str]) -> None:
        self.dataset_prefixes = list(dataset_prefixes)
        if len(set(self.dataset_prefixes)) < len(self.dataset_prefixes):
            raise ConfigError(f"dataset_prefixes must differ, got {self.dataset_prefixes}")
        metrics = [metrics] if isinstance(metrics, dict) else list(metrics)
        self._parts = [Evaluator(copy.deepcopy(metrics)) for _ in self.dataset_prefixes]
        super().__init__([metric for part in self._parts for metric in part.metrics])
        self._starts: list[int] = []
        self._sizes: list[int] = []

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the concatenation."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        ends = dataset_meta.get("cumulative_sizes") or []
        if len(ends) != len(self._parts):
            raise ConfigError(
                f"SeparateEvaluator has {len(self._parts)} dataset_prefixes, but the dataloader "
                f"has {len(ends) or 'no'} datasets in a ConcatDataset"
            )
        self._sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        self._starts = dataset_meta["first_positions"]
        for part in self._parts:
            part.dataset_meta = dataset_meta

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        """Hand each prediction to the metrics of its dataset.

        Args:
            data_samples (Sequence): ``DetDataSample`` objects with ``sample_idx``.
            data_batch: Unused.
        """
        for sample in data_samples:
            part = bisect_right(self._starts, int(sample.sample_idx)) - 1
            self._parts[part].process([sample], data_batch)

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute all metrics.

        Args:
            size (int): Images of all datasets together.

        Returns:
            dict[str, float]: ``<dataset>/<metric>``.
        """
        results = {}
        for name, part, count in zip(self.dataset_prefixes, self._parts, self._sizes, strict=True):
            results.update({f"{name}/{key}": v for key, v in part.evaluate(count).items()})
        return results
