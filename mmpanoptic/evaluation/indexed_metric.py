"""Base of the metrics: one record per image, whatever the ranks and the sampler do."""

from __future__ import annotations

import os
import sys
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    collect_results,
    is_main_process,
)
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmpanoptic.structures import LabelTable

from .record_store import RecordStore


class IndexedMetric(BaseMetric):
    """Metric whose result does not depend on ranks, order or padding.

    Every image makes one record. The records of all ranks are gathered, sorted by the image's
    ``sample_idx``, and a second record of an image (samplers pad the last batch) is dropped.

    Differences from the original (``mmengine.evaluator.BaseMetric``): mmengine interleaves the
    ranks' results and cuts them to the length of the dataset, which is right for one sampler
    only; and an error on the first rank leaves the others waiting, which here fail too.

    Args:
        format_only (bool): Write files for a test server and compute nothing.
        outfile_prefix (str | None): Where files go; None writes none. Needed by ``format_only``.
        **options: Arguments of mmengine's ``BaseMetric``: ``collect_device``, ``prefix``,
            ``collect_dir``.

    Raises:
        ValueError: If ``format_only`` is set without ``outfile_prefix``.
    """

    def __init__(
        self,
        format_only: bool = False,
        outfile_prefix: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        if format_only and outfile_prefix is None:
            raise ValueError(
                f"{type(self).__name__}: format_only=True writes files only; say where with "
                "outfile_prefix='work_dirs/submission/name'"
            )
        super().__init__(**options)
        self.format_only = format_only
        self._store = RecordStore()
        self._table: tuple[Any, LabelTable] | None = None
        self.outfile_prefix = None if outfile_prefix is None else os.fspath(outfile_prefix)

    @property
    def label_table(self) -> LabelTable:
        """The dataset's classes.

        Raises:
            ValueError: If nobody set ``dataset_meta``.
        """
        if self.dataset_meta is None:
            raise ValueError(
                f"{type(self).__name__} needs dataset_meta: build it with an Evaluator, or set "
                "metric.dataset_meta = dataset.metainfo"
            )
        if self._table is None or self._table[0] is not self.dataset_meta:
            self._table = (self.dataset_meta, LabelTable.from_metainfo(self.dataset_meta))
        return self._table[1]

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Make the records of a batch.

        Args:
            data_batch: Unused.
            data_samples: ``DetDataSample`` objects, or what their ``to_dict`` returns.
        """
        for sample in data_samples:
            fields = sample if isinstance(sample, Mapping) else sample.to_dict()
            if "sample_idx" not in fields:
                raise ValueError(
                    f"{type(self).__name__}: the data sample of {fields.get('img_path')!r} has no "
                    "sample_idx; add it to meta_keys of the packing transform"
                )
            record = self._store.pack(self.make_record(fields))
            self.results.append((int(fields["sample_idx"]), record))

    @abstractmethod
    def make_record(self, sample: Mapping[str, Any]) -> Any:
        """Compare one prediction with its ground truth.

        Args:
            sample (Mapping): Fields of the data sample.

        Returns:
            Any: Small and picklable: integers and scores, no maps.
        """

    @abstractmethod
    def summarize(self, records: list[Any]) -> dict[str, float]:
        """Compute the metrics.

        Args:
            records (list): One per image, in the order of the dataset.

        Returns:
            dict[str, float]: Unrounded values by name.
        """

    def write_files(self, records: list[Any]) -> None:
        """Write the files that need all records; ``make_record`` may write one per image.

        Args:
            records (list): One per image, in the order of the dataset.
        """

    def compute_metrics(self, results: list[tuple[int, Any]]) -> dict[str, float]:
        """Sort the records, drop repeated images, compute.

        Args:
            results (list): Pairs of ``sample_idx`` and record, of all ranks.

        Returns:
            dict[str, float]: As :meth:`summarize`; empty if ``format_only``.
        """
        unique: dict[int, Any] = {}
        for index, record in results:
            unique.setdefault(index, record)
        records = [unique[index] for index in sorted(unique)]
        if self.outfile_prefix is not None:
            self.write_files(records)
        return {} if self.format_only else self.summarize(records)

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the ranks' records and compute the metrics on the first rank.

        Args:
            size (int): Number of images of the dataset.

        Returns:
            dict[str, float]: The same on every rank.

        Raises:
            RuntimeError: On other ranks, if the first one failed.
        """
        records = [(index, self._store.unpack(record)) for index, record in self.results]
        self.results.clear()
        self._store.clear()
        results = self._gather(records)
        message: list[Any] = [None]
        error: Exception | None = None
        if is_main_process():
            try:
                message = [self._compute(results or [], size)]
            except Exception as caught:
                message, error = [f"{type(caught).__name__}: {caught}"], caught
        broadcast_object_list(message)
        if error is not None:
            raise error
        if isinstance(message[0], str):
            raise RuntimeError(f"{type(self).__name__} failed on the first rank: {message[0]}")
        return message[0]

    def _gather(self, records: list[tuple[int, Any]]) -> list[tuple[int, Any]] | None:
        """Bring the records of all ranks to the first one.

        No cut to the size of the dataset: repeated images are found by their index instead.
        mmengine's way over files needs a folder, for which it takes the working directory; without
        ``collect_dir`` the records go through the process group.
        """
        if self.collect_device == "cpu" and self.collect_dir is None:
            return [pair for part in all_gather_object(records) for pair in part]
        folder = {"tmpdir": self.collect_dir} if self.collect_device == "cpu" else {}
        return collect_results(records, sys.maxsize, self.collect_device, **folder)

    def _compute(self, results: list[tuple[int, Any]], size: int) -> dict[str, float]:
        evaluated = len({index for index, _ in results})
        if evaluated != size:
            warnings.warn(
                f"{type(self).__name__} saw {evaluated} of the dataset's {size} images",
                stacklevel=2,
            )
        metrics = self.compute_metrics(results)
        return {f"{self.prefix}/{k}" if self.prefix else k: v for k, v in metrics.items()}

    def log_table(self, table: str) -> None:
        """Write a table to the log, starting on a line of its own."""
        # A quiet console shows them, see mmpanoptic.engine.console.
        MMLogger.get_current_instance().info("\n" + table, extra={"console": "table"})
