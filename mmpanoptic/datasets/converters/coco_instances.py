"""COCO panoptic to a COCO instance JSON with run-length masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.structures import LabelTable

from .incremental import InstanceFormat, Job, Record, Summary, convert_to_json
from .maps import MaskEncoder, describe_segments, relabel
from .panoptic_source import PanopticSource, read_ids

MODES = ("things", "all", "merged")
"""Thing segments; all segments; one mask per class and image."""


def convert_to_instances(
    source: PanopticSource, out: Path, mode: str = "things", nproc: int = 1
) -> Summary:
    """Write an instance JSON whose masks do not overlap, as those of the panoptic map.

    Areas and boxes are counted in the PNG; they equal the JSON's wherever those are right.
    Annotation ids start at 1, since pycocotools takes 0 for "unmatched".

    Args:
        source: The set.
        out: The JSON to write.
        mode: Of :data:`MODES`; ``merged`` forgets ``iscrowd``.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        ValueError: If the mode is unknown.
        PanopticFormatError: If a PNG does not fit the JSON.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    jobs = [
        Job(
            image["file_name"], (source.pngs / record["seg_file"], source.json), (), (image, record)
        )
        for image, record in zip(source.images(), source.records, strict=True)
    ]
    info = {"description": f"instances of {source.json.name}", "mode": mode, "version": 1}
    form = InstanceFormat(_categories(source, mode))
    describe = (
        partial(_describe_merged, source.table)
        if mode == "merged"
        else partial(_describe, mode == "things")
    )
    return convert_to_json(describe, jobs, out, form, info, nproc)


def _categories(source: PanopticSource, mode: str) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in category.items() if k not in ("isthing", "color")}
        for category in source.content["categories"]
        if category["isthing"] or mode != "things"
    ]


def _describe(things_only: bool, job: Job) -> Record:
    image, record = job.data
    ids = read_ids(job.sources[0], record)
    encoder = MaskEncoder(ids)
    found = {segment["id"]: segment for segment in describe_segments(ids)}
    annotations = [
        {
            "category_id": segment["category_id"],
            "iscrowd": segment["iscrowd"],
            "bbox": found[segment["id"]]["bbox"],
            "area": found[segment["id"]]["area"],
            "segmentation": encoder.encode(segment["id"]),
        }
        for segment in record["segments_info"]
        if segment["id"] in found and (segment["isthing"] or not things_only)
    ]
    return {"image": image, "annotations": annotations}


def _describe_merged(table: LabelTable, job: Job) -> Record:
    image, record = job.data
    segments = sorted(record["segments_info"], key=lambda segment: segment["id"])
    # Labels are shifted by one, since describe_segments takes 0 for void.
    labels = relabel(
        read_ids(job.sources[0], record),
        [segment["id"] for segment in segments],
        [segment["label"] + 1 for segment in segments],
        0,
    ).astype(np.int32)
    encoder = MaskEncoder(labels)
    annotations = [
        {
            "category_id": table[segment["id"] - 1].dataset_id,
            "iscrowd": 0,
            "bbox": segment["bbox"],
            "area": segment["area"],
            "segmentation": encoder.encode(segment["id"]),
        }
        for segment in describe_segments(labels)
    ]
    return {"image": image, "annotations": annotations}
