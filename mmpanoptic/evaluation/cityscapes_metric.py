"""Cityscapes' pixel and instance level as mmengine metrics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.registry import METRICS
from mmpanoptic.utils.label_png import read_label_png

from .cityscapes_files import (
    INSTANCES_SUFFIX,
    LABELS_SUFFIX,
    UNLABELED,
    cityscapes_ids,
    cityscapes_image_id,
    cityscapes_truth,
    read_pixel_truth,
    write_instances,
    write_semantic,
)
from .cityscapes_instance import (
    InstanceCounts,
    count_map_overlaps,
    count_overlaps,
    instance_scores,
    instance_table,
)
from .cityscapes_pixel import (
    NUM_LABELS,
    PixelCounts,
    count_pixels,
    pixel_scores,
    pixel_tables,
)
from .indexed_metric import IndexedMetric
from .matching_files import require_same_size
from .sample_fields import check_source, panoptic_things, predicted_instances
from .semantic_counts import SparseCounts, add_counts
from .semantic_metric import semantic_prediction


class _CityscapesMetric(IndexedMetric):
    def __init__(
        self,
        gt_root: str | os.PathLike[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | os.PathLike[str] | None = None,
        data_root: str = "",
        **options: Any,
    ) -> None:
        super().__init__(format_only, outfile_prefix, **options)
        self.gt_root = None if gt_root is None else os.path.join(data_root, gt_root)

    def _folder(self, kind: str) -> Path:
        """Folder of a submission; its name is that of the prefix and the kind."""
        return Path(f"{self.outfile_prefix}.{kind}")


class _PixelRecord(NamedTuple):
    matrix: SparseCounts
    instances: np.ndarray


@METRICS.register_module()
class CityscapesPixelMetric(_CityscapesMetric):
    """IoU and iIoU of ``pred_sem_seg``, per class and per category.

    Results, in percent: ``mIoU`` (the benchmark's "IoU class", the mIoU of the papers), ``iIoU``,
    ``category_mIoU``, ``category_iIoU``. Void predictions become the label ``unlabeled``.

    Args:
        gt_root (str | None): Folder with the cities' ``*_labelIds.png`` and
            ``*_instanceIds.png``; None finds ``gtFine`` from the image.
        format_only (bool): Write files for the benchmark's server and compute nothing.
        outfile_prefix (str | None): Label ids go to ``<outfile_prefix>.semantic/<id>_pred_
            labelIds.png``.
        data_root (str): Folder in front of ``gt_root`` where that is relative.
        **options: Arguments of :class:`IndexedMetric`.
    """

    default_prefix = "cityscapes_pixel"

    def make_record(self, sample: Mapping[str, Any]) -> _PixelRecord | None:
        """Count one image."""
        labels = semantic_prediction(sample, type(self).__name__)
        table = np.append(cityscapes_ids(self.label_table), np.uint8(UNLABELED))
        void = len(table) - 1
        ids = table[np.where((labels < 0) | (labels > void), void, labels)]
        if self.outfile_prefix is not None:
            write_semantic(self._folder("semantic"), cityscapes_image_id(sample["img_path"]), ids)
        if self.format_only:
            return None
        labels_file, instances_file = (
            cityscapes_truth(sample["img_path"], suffix, self.gt_root)
            for suffix in (LABELS_SUFFIX, INSTANCES_SUFFIX)
        )
        truth, instances = read_pixel_truth(labels_file, instances_file)
        require_same_size(truth, ids, labels_file, f"pred_sem_seg of {sample['img_path']}")
        counts = count_pixels(truth, instances, ids)
        return _PixelRecord(SparseCounts.from_dense(counts.matrix), counts.instances)

    def summarize(self, records: list[_PixelRecord]) -> dict[str, float]:
        """Add the images and average."""
        matrix = add_counts([record.matrix for record in records], (NUM_LABELS, NUM_LABELS))
        empty = np.zeros((0, 4), np.int64)
        instances = np.concatenate([empty, *(record.instances for record in records)])
        scores = pixel_scores(PixelCounts(matrix, instances))
        self.log_table(pixel_tables(scores))
        return {name: 100 * value for name, value in scores.means().items()}


@METRICS.register_module()
class CityscapesInstanceMetric(_CityscapesMetric):
    """AP and AP50 of predicted instances by Cityscapes' rules.

    Results, in percent: ``AP`` (IoU 0.5 to 0.95) and ``AP50``. Masks may overlap. Labels without
    evaluated instances are left out.

    Args:
        source (str): ``pred_instances`` (masks, labels, scores), or ``pred_panoptic_seg``, whose
            things are the instances; then no masks of full size are needed.
        gt_root (str | None): Folder with the cities' ``*_instanceIds.png``; None finds ``gtFine``
            from the image.
        format_only (bool): Write files for the benchmark's server and compute nothing.
        outfile_prefix (str | None): Predictions go to ``<outfile_prefix>.instance/``: a text file
            per image and the masks.
        data_root (str): Folder in front of ``gt_root`` where that is relative.
        **options: Arguments of :class:`IndexedMetric`.

    Raises:
        ValueError: If there is no such source.
    """

    default_prefix = "cityscapes_instance"

    def __init__(
        self,
        source: str = "pred_instances",
        gt_root: str | os.PathLike[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | os.PathLike[str] | None = None,
        data_root: str = "",
        **options: Any,
    ) -> None:
        super().__init__(gt_root, format_only, outfile_prefix, data_root, **options)
        self.source = check_source(source)

    def make_record(self, sample: Mapping[str, Any]) -> InstanceCounts | None:
        """Count one image."""
        table, name = cityscapes_ids(self.label_table), type(self).__name__
        if self.source == "pred_panoptic_seg":
            things = panoptic_things(sample, len(table), name)
            ids = table[things.labels].tolist()
            masks: Iterable[np.ndarray] = (things.index_map == k for k in things.numbers)
            self._write(sample, masks, ids, things.scores)
            count = partial(
                count_map_overlaps,
                index_map=things.index_map,
                numbers=things.numbers,
                labels=ids,
                scores=things.scores,
            )
        else:
            parts = ("labels", "masks", "scores")
            labels, found, scores = predicted_instances(sample, parts, len(table), name)
            ids, masks = table[labels.numpy()].tolist(), found.bool().numpy()
            self._write(sample, masks, ids, scores.tolist())
            count = partial(count_overlaps, masks=masks, labels=ids, scores=scores.tolist())
        if self.format_only:
            return None
        truth = read_label_png(cityscapes_truth(sample["img_path"], INSTANCES_SUFFIX, self.gt_root))
        try:
            return count(truth)
        except ValueError as error:
            raise ValueError(f"{self.source} of {sample['img_path']}: {error}") from error

    def _write(
        self,
        sample: Mapping[str, Any],
        masks: Iterable[np.ndarray],
        labels: list[int],
        scores: list[float],
    ) -> None:
        if self.outfile_prefix is not None:
            image_id = cityscapes_image_id(sample["img_path"])
            write_instances(self._folder("instance"), image_id, masks, labels, scores)

    def summarize(self, records: list[InstanceCounts]) -> dict[str, float]:
        """Match and average."""
        scores = instance_scores(records)
        self.log_table(instance_table(scores))
        return {name: 100 * value for name, value in scores.means().items()}
