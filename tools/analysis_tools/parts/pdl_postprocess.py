"""Everything after the network of Panoptic-DeepLab."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.fusion_heads import CenterGroupingHead
from mmpanoptic.models.instance_heads import CenterOffsetOutputs
from tests.data.golden.panoptic_deeplab.crafted_inputs import (
    CITYSCAPES_THINGS,
    COCO_THINGS,
    make_logits,
    make_postprocess_inputs,
)
from tests.reference.panoptic_deeplab import get_panoptic_segmentation

DESCRIPTION = "outputs at stride 4 to the panoptic map and its scores."
BASELINE = (
    "the published procedure: all maps enlarged by 4, resized to the result (of the same size), "
    "argmax, softmax, grouping, merge, scores by mask."
)
CASES = {"cityscapes": {}, "coco": {"coco": True}}
SHRINK = {"default": 1, "small": 8}


def make_inputs(size: str = "default", coco: bool = False) -> dict[str, Any]:
    """Draw a scene at 1024 x 2048 (40 things, 19 classes) or 640 x 640 (15 things, 133)."""
    height, width = (v // SHRINK[size] for v in ((640, 640) if coco else (1024, 2048)))
    num_classes, things = (133, COCO_THINGS) if coco else (19, CITYSCAPES_THINGS)
    arrays = make_postprocess_inputs(
        0,
        height,
        width,
        15 if coco else 40,
        num_classes=num_classes,
        thing_ids=things,
        scale=0.06 if coco else 0.04,
    )
    logits = make_logits(0, arrays["sem"][::4, ::4], num_classes)
    head = CenterGroupingHead(
        num_classes,
        things,
        stuff_area=(4096 if coco else 2048) // SHRINK[size] ** 2,
        nms_kernel=41 if coco else 7,
    )
    return {
        "shape": (height, width),
        "logits": torch.from_numpy(logits)[None],
        "center": torch.from_numpy(arrays["center"])[None, :, ::4, ::4].contiguous(),
        "offset": torch.from_numpy(arrays["offset"])[None, :, ::4, ::4] / 4,
        "things": things,
        "head": head,
    }


def baseline(inputs: dict[str, Any]) -> dict[str, Any]:
    """Work on maps of full size, as published."""
    shape, head = inputs["shape"], inputs["head"]

    def enlarge(x: Tensor) -> Tensor:
        resize = partial(functional.interpolate, mode="bilinear", align_corners=False)
        return resize(resize(x, scale_factor=4), size=shape)[0]

    logits, center = enlarge(inputs["logits"]), enlarge(inputs["center"])
    semantic, probability = logits.argmax(0), logits.softmax(0)
    panoptic, _ = get_panoptic_segmentation(
        semantic,
        center[0],
        enlarge(inputs["offset"]) * 4,
        inputs["things"],
        head.stuff_area,
        nms_kernel=head.nms_kernel,
    )
    scores = {}
    for code in panoptic.unique().tolist():
        if code // 1000 in inputs["things"]:
            mask = panoptic == code
            y, x = (int(rows.double().mean()) for rows in mask.nonzero(as_tuple=True))
            scores[code] = float(probability[code // 1000][mask].mean() * center[0, y, x])
    return {"panoptic": panoptic.numpy(), "scores": scores}


@torch.no_grad()
def ours(inputs: dict[str, Any]) -> dict[str, Any]:
    """Run the fusion head."""
    outputs = CenterOffsetOutputs(inputs["center"], inputs["offset"])
    return inputs["head"].predict(inputs["logits"], outputs, [{"img_shape": inputs["shape"]}])[0]


def check(expected: dict[str, Any], got: dict[str, Any]) -> None:
    """Compare every pixel and every score."""
    data = got["pred_panoptic_seg"]
    codes, scores = [-1], {}
    seen: dict[int, int] = {}
    for segment in data.segments_info:
        label = segment["label"]
        seen[label] = seen.get(label, 0) + 1
        codes.append(label * 1000 + (seen[label] if segment["isthing"] else 0))
        if segment["isthing"]:
            scores[codes[-1]] = segment["score"]
    np.testing.assert_array_equal(np.array(codes)[data.index_map[0]], expected["panoptic"])
    if scores.keys() != expected["scores"].keys():
        raise AssertionError("the maps have different instances")
    for code, score in scores.items():
        np.testing.assert_allclose(score, expected["scores"][code], rtol=1e-4)
