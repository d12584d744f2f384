"""Panoptic quality of predictions in memory."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger

from mmpanoptic.evaluation import PanopticQualityMetric
from mmpanoptic.structures import LabelTable, SegmentInfo, make_panoptic_data
from tests.reference import panoptic_quality as reference
from tests.reference.panoptic_files import CASES, PanopticFiles, write_files

DESCRIPTION = "PanopticQualityMetric; predictions in memory, ground truth cached from an epoch."
BASELINE = "the published procedure: both maps from PNG files, sorted pairs of ids."

__all__ = ["CASES"]


def make_inputs(size: str = "default", **case: int) -> dict[str, Any]:
    """Write PNG files for the baseline and make the data samples that a model would return."""
    files = write_files(size, **case)
    table = LabelTable.from_categories(files.categories)
    metric = PanopticQualityMetric(classwise=False)
    metric.dataset_meta = table.to_metainfo()
    samples = [_sample(files, table, number) for number in range(len(files.annotations))]
    return {"files": files, "metric": metric, "samples": samples}


def _sample(files: PanopticFiles, table: LabelTable, number: int) -> DetDataSample:
    annotation = files.annotations[number]
    index, categories = files.predictions[number]
    labels = [table.by_dataset_id(category) for category in categories]
    info = [SegmentInfo(id=k, label=label.index) for k, label in enumerate(labels, 1)]
    sample = DetDataSample(
        metainfo={
            "sample_idx": number,
            "img_id": annotation["image_id"],
            "img_path": annotation["file_name"],
            "seg_map_path": str(files.folder / "gt" / annotation["file_name"]),
            "segments_info": annotation["segments_info"],
        }
    )
    sample.pred_panoptic_seg = make_panoptic_data(torch.from_numpy(index), info)
    return sample


def baseline(inputs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Evaluate the files."""
    return reference.evaluate(*inputs["files"].paths)[0]


def ours(inputs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Evaluate the samples."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("WARNING")
    metric = inputs["metric"]
    metric.process(None, inputs["samples"])
    metric.evaluate(len(inputs["samples"]))
    logger.setLevel(level)
    return metric.quality.averages


def check(expected: dict[str, dict[str, float]], got: dict[str, dict[str, float]]) -> None:
    """Compare bits."""
    if got != expected:
        raise AssertionError(f"{got} != {expected}")
