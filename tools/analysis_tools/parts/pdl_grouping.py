"""Grouping of Panoptic-DeepLab: centres, nearest centre of every thing pixel, majority vote."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmpanoptic.models.postprocess.centers import find_centers, group_things
from mmpanoptic.models.postprocess.segments import merge_segments
from tests.data.golden.panoptic_deeplab.crafted_inputs import (
    CITYSCAPES_THINGS,
    COCO_THINGS,
    make_postprocess_inputs,
)
from tests.reference.panoptic_deeplab import get_panoptic_segmentation

DESCRIPTION = "full-size classes, heatmap and offsets to a panoptic map."
BASELINE = "the published procedure: every pixel to every centre, a loop over instances."
CASES = {
    "cityscapes": {"dataset": "cityscapes"},
    "coco": {"dataset": "coco"},
}
DATASETS = {
    "cityscapes": {
        "shape": (1024, 2048),
        "scene": {"num_instances": 40, "num_classes": 19, "thing_ids": CITYSCAPES_THINGS},
        "stuff_area": 2048,
        "nms_kernel": 7,
    },
    "coco": {
        "shape": (640, 640),
        "scene": {"num_instances": 15, "num_classes": 133, "thing_ids": COCO_THINGS},
        "stuff_area": 4096,
        "nms_kernel": 41,
    },
}
SCALES = {"cityscapes": 0.04, "coco": 0.06}
SHRINK = {"default": 1, "small": 8}


def make_inputs(size: str = "default", dataset: str = "cityscapes") -> dict[str, Any]:
    """Draw a scene and what the network would say about it."""
    settings: dict[str, Any] = DATASETS[dataset]
    height, width = (length // SHRINK[size] for length in settings["shape"])
    arrays = make_postprocess_inputs(0, height, width, scale=SCALES[dataset], **settings["scene"])
    isthing = torch.zeros(settings["scene"]["num_classes"], dtype=torch.bool)
    isthing[list(settings["scene"]["thing_ids"])] = True
    return {
        "semantic": torch.from_numpy(arrays["sem"]),
        "heatmap": torch.from_numpy(arrays["center"])[0],
        "offset": torch.from_numpy(arrays["offset"]),
        "isthing": isthing,
        "thing_ids": settings["scene"]["thing_ids"],
        "stuff_area": settings["stuff_area"] // SHRINK[size] ** 2,
        "nms_kernel": settings["nms_kernel"],
    }


def baseline(inputs: dict[str, Any]) -> Tensor:
    """Group all pixels, then take one instance after the other."""
    return get_panoptic_segmentation(
        inputs["semantic"],
        inputs["heatmap"],
        inputs["offset"],
        inputs["thing_ids"],
        inputs["stuff_area"],
        nms_kernel=inputs["nms_kernel"],
    )[0]


def ours(inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Do what CenterGroupingHead does; the map, and number and label of each segment."""
    centers = find_centers(inputs["heatmap"], nms_kernel=inputs["nms_kernel"])
    semantic, isthing = inputs["semantic"], inputs["isthing"]
    instance = group_things(semantic, centers, inputs["offset"], isthing)
    merged = merge_segments(semantic, instance, len(centers), isthing, inputs["stuff_area"])
    return merged.index_map, merged.table.number, merged.table.label


def check(expected: Tensor, got: tuple[Tensor, Tensor, Tensor]) -> None:
    """Compare every pixel: both maps must name the same segments of the same classes."""
    index_map, number, label = got
    used = number > 0
    label_of = torch.full((int(used.sum()) + 1,), -1)
    label_of[number[used].long()] = label[used]
    pairs = torch.stack([expected.flatten(), index_map.flatten().long()], 1).unique(dim=0)
    for code, segment in pairs.tolist():
        class_of_code = code // 1000 if code >= 0 else -1
        if class_of_code != int(label_of[segment]):
            raise AssertionError(f"segment {segment} has the published label {code}")
    for column in (0, 1):
        if len(pairs[:, column].unique()) != len(pairs):
            raise AssertionError("a segment of one map is split in the other")
