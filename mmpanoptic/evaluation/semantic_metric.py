"""Mean IoU as an mmengine metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmpanoptic.registry import METRICS
from mmpanoptic.structures import IGNORE_LABEL, LabelTable, find_runs, lookup_sorted
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .indexed_metric import IndexedMetric
from .matching_files import require_same_size
from .sample_fields import prediction_field
from .semantic_counts import SparseCounts, add_counts
from .semantic_iou import (
    check_definitions,
    confusion_matrix,
    semantic_scores,
    semantic_table,
)


@METRICS.register_module()
class SemanticIoUMetric(IndexedMetric):
    """Mean IoU of ``pred_sem_seg`` against the panoptic annotation.

    The ground truth is the class of every segment (crowds have one too) of the panoptic PNG at
    ``seg_map_path``, at full size; pixels of no segment are void.

    Args:
        definitions (Sequence[str] | str): Keys of
            :data:`mmpanoptic.evaluation.semantic_iou.DEFINITIONS`. The first one gives ``mIoU``,
            ``fwIoU``, ``mAcc`` and ``aAcc``, the others ``mIoU_<definition>``.
        **options: Arguments of :class:`IndexedMetric`.

    Raises:
        ValueError: If there is no such definition.
    """

    default_prefix = "semantic"

    def __init__(
        self,
        definitions: Sequence[str] | str = "mmseg",
        **options: Any,
    ) -> None:
        super().__init__(False, None, **options)  # it writes no files
        self.definitions = [definitions] if isinstance(definitions, str) else list(definitions)
        check_definitions(self.definitions)

    def make_record(self, sample: Mapping[str, Any]) -> SparseCounts:
        """Count one image."""
        prediction = semantic_prediction(sample, type(self).__name__)
        table = self.label_table
        truth = ground_truth_labels(sample, table)
        require_same_size(
            truth, prediction, sample["seg_map_path"], f"pred_sem_seg of {sample.get('img_path')}"
        )
        return SparseCounts.from_dense(confusion_matrix(truth, prediction, len(table)))

    def summarize(self, records: list[SparseCounts]) -> dict[str, float]:
        """Add the images and average."""
        names = [label.name for label in self.label_table]
        matrix = add_counts(records, (len(names), len(names) + 1))
        first = semantic_scores(matrix, self.definitions[0])
        self.log_table(semantic_table(first, names, self.definitions[0]))
        metrics = {name: 100 * value for name, value in first.averages().items()}
        for name in self.definitions[1:]:
            metrics[f"mIoU_{name}"] = 100 * semantic_scores(matrix, name).mean_iou
        return metrics


def semantic_prediction(sample: Mapping[str, Any], metric: str) -> np.ndarray:
    """Return ``pred_sem_seg.sem_seg`` as labels.

    Args:
        sample (Mapping): Fields of the data sample.
        metric (str): Name for the message.

    Returns:
        np.ndarray: int64 ``(H, W)``, contiguous labels.

    Raises:
        ValueError: If there is none, or it is no map of labels.
    """
    labels = prediction_field(sample, "pred_sem_seg", "sem_seg", metric)
    if labels.ndim == 3 and labels.shape[0] == 1:
        labels = labels[0]
    if labels.ndim != 2 or labels.is_floating_point():
        raise ValueError(
            f"{metric}: pred_sem_seg.sem_seg must hold integer labels (1, H, W), got "
            f"{labels.dtype} {tuple(labels.shape)}; take the argmax of the scores first"
        )
    return labels.long().cpu().numpy()


def ground_truth_labels(sample: Mapping[str, Any], table: LabelTable) -> np.ndarray:
    """Read the panoptic annotation of a data sample as contiguous labels.

    Args:
        sample (Mapping): With ``seg_map_path`` and ``segments_info``.
        table (LabelTable): Of the dataset.

    Returns:
        np.ndarray: uint8 (uint16 for 255 classes and more) ``(H, W)``; void is 255 (the number
        of classes).

    Raises:
        ValueError: If the sample has no annotation.
    """
    if not sample.get("seg_map_path") or sample.get("segments_info") is None:
        raise ValueError(
            f"the data sample of {sample.get('img_path')!r} has no seg_map_path and "
            "segments_info; evaluate a split with annotations, and keep both in meta_keys"
        )
    void, dtype = (
        (IGNORE_LABEL, np.uint8) if len(table) <= IGNORE_LABEL else (len(table), np.uint16)
    )
    segments = sorted(sample["segments_info"], key=lambda segment: segment["id"])
    ids = np.array([segment["id"] for segment in segments], np.int64)
    labels = [segment["label"] for segment in segments]
    runs = find_runs(read_panoptic_png(sample["seg_map_path"]))
    # Position -1, a value that is no segment, picks the last entry: void.
    return runs.expand(np.array([*labels, void], dtype)[lookup_sorted(ids, runs.value)])
