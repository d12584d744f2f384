"""Training targets of Panoptic-DeepLab."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample

from mmpanoptic.models.instance_heads import make_center_offset_targets
from mmpanoptic.models.layers import collate_segments
from mmpanoptic.models.semantic_heads.semantic_targets import make_semantic_targets
from mmpanoptic.structures import SegmentInfo, make_panoptic_data
from tests.data.golden.panoptic_deeplab.crafted_inputs import (
    CITYSCAPES_THINGS,
    COCO_THINGS,
    make_panoptic_gt,
)
from tests.reference.panoptic_deeplab import make_targets

DESCRIPTION = "annotation to classes, weights, heatmap and offsets; a batch of two images."
BASELINE = "the published generator: a pass over the image per segment."
CASES = {
    "512x1024": {"shape": (512, 1024)},
    "1024x2048": {"shape": (1024, 2048)},
    "640x640": {"shape": (640, 640), "coco": True},
}
SHRINK = {"default": 1, "small": 8}


def make_inputs(
    size: str = "default", shape: tuple[int, int] = (512, 1024), coco: bool = False
) -> dict[str, Any]:
    """Draw two scenes: 40 things on 19 classes, or 15 on 133."""
    height, width = (length // SHRINK[size] for length in shape)
    things = COCO_THINGS if coco else CITYSCAPES_THINGS
    scene = {"num_classes": 133 if coco else 19, "thing_ids": things}
    drawn = [make_panoptic_gt(seed, height, width, 15 if coco else 40, **scene) for seed in (0, 1)]
    return {
        "drawn": drawn,
        "samples": [_make_sample(ids, segments, things) for ids, segments in drawn],
        "things": things,
        "sigma": 8 if coco else 10,
    }


def _make_sample(ids: np.ndarray, segments: list[dict], things: tuple[int, ...]) -> DetDataSample:
    """Pack as the pipeline does: an index map and the list of its segments."""
    index_of = np.zeros(int(ids.max()) + 1, np.uint8)
    infos: list[SegmentInfo] = []
    for number, segment in enumerate(segments, 1):
        if segment["id"] < len(index_of):
            index_of[segment["id"]] = number
        label = segment["category_id"]
        infos.append(
            SegmentInfo(
                id=segment["id"],
                label=label,
                isthing=label in things,
                iscrowd=segment["iscrowd"],
            )
        )
    sample = DetDataSample(metainfo={"img_shape": ids.shape})
    sample.gt_panoptic_seg = make_panoptic_data(index_of[ids], infos)
    return sample


def baseline(inputs: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """Make the targets image by image, segment by segment."""
    return [
        make_targets(ids, segments, inputs["things"], inputs["sigma"])
        for ids, segments in inputs["drawn"]
    ]


def ours(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Make the targets of the batch as the two heads do."""
    segments = collate_segments(inputs["samples"])
    semantic, weight = make_semantic_targets(segments)
    targets = make_center_offset_targets(segments, inputs["sigma"])
    return {"semantic": semantic, "semantic_weight": weight, **targets._asdict()}


def check(expected: list[dict[str, np.ndarray]], got: dict[str, torch.Tensor]) -> None:
    """Compare all maps; every bit must be equal."""
    for image, targets in enumerate(expected):
        for name, value in targets.items():
            if name != "center_points":
                result = got[name][image].numpy().reshape(value.shape)
                np.testing.assert_array_equal(result, value, err_msg=name)
