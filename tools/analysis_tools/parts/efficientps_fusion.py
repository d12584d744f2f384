"""Adaptive fusion of instance and semantic logits (EfficientPS)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.fusion_heads import AdaptiveLogitFusionHead
from tests.data.golden.panoptic_deeplab.crafted_inputs import (
    CITYSCAPES_THINGS,
    make_logits,
    make_panoptic_gt,
)
from tests.reference import efficientps

DESCRIPTION = "logits at stride 4 and 20 masks of boxes to the panoptic map, 1024 x 2048."
BASELINE = (
    "the authors' procedure: every mask pasted into the whole image, stacked with the stuff "
    "classes, argmax; [published] pastes the masks of all 9 classes, [one-class] of the predicted."
)
CASES = {"published": {"channels": 9}, "one-class": {"channels": 1}}
SHRINK = {"default": 1, "small": 8}
NUM_CLASSES, NUM_STUFF, CELLS = 19, 11, 28


def make_inputs(size: str = "default", channels: int = 1) -> dict[str, Any]:
    """Draw a scene with 20 things; ``channels`` masks are predicted for each."""
    height, width = (v // SHRINK[size] for v in (1024, 2048))
    ids, segments = make_panoptic_gt(0, height, width, 20)
    label_of = {s["id"]: s["category_id"] for s in segments}
    semantic = np.vectorize(lambda number: label_of.get(number, 0))(ids[::4, ::4])
    things = [s for s in segments if s["category_id"] in CITYSCAPES_THINGS][:20]
    boxes, crops = zip(*(_crop(ids == s["id"]) for s in things), strict=True)
    masks = torch.stack(crops)[:, None].repeat(1, channels, 1, 1)
    masks += torch.from_numpy(np.random.default_rng(0).normal(0, 0.5, masks.shape)).float()
    labels = torch.tensor([s["category_id"] - NUM_STUFF for s in things])
    stuff_area = 2048 // SHRINK[size] ** 2
    head = AdaptiveLogitFusionHead(
        NUM_CLASSES,
        CITYSCAPES_THINGS,
        stuff_area=stuff_area,
        inst_logit_scale=4.0,
        legacy_zero_outside=True,
        legacy_windows=True,
    )
    return {
        "size": (height, width),
        "logits": torch.from_numpy(make_logits(0, semantic, NUM_CLASSES)),
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": labels,
        "masks": masks,
        "stuff_area": stuff_area,
        "head": head,
    }


def _crop(mask: np.ndarray) -> tuple[list[float], Tensor]:
    """Tight box of a mask, a little off the pixels, and logits of the mask in it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    inside = torch.from_numpy(mask[y0:y1, x0:x1]).float()[None, None]
    small = functional.interpolate(inside, (CELLS, CELLS), mode="area")[0, 0]
    return [x0 - 0.3, y0 + 0.2, x1 + 0.4, y1 - 0.1], 8 * small - 4


def baseline(inputs: dict[str, Any]) -> tuple[Tensor, list[int]]:
    """Fuse at full size."""
    arguments = (inputs[name] for name in ("logits", "boxes", "labels", "masks", "size"))
    fuse = partial(efficientps.fuse, num_stuff=NUM_STUFF, stuff_area=inputs["stuff_area"])
    return fuse(*arguments)


def ours(inputs: dict[str, Any]) -> tuple[Tensor, list[int]]:
    """Fuse inside the boxes."""
    labels = inputs["labels"]
    masks = inputs["masks"]
    instances = InstanceData(
        bboxes=inputs["boxes"],
        labels=labels,
        scores=torch.linspace(0.99, 0.6, len(labels)),
        mask_logits=masks[torch.arange(len(labels)), labels % masks.shape[1]],
    )
    meta = {"img_shape": inputs["size"]}
    result = inputs["head"].predict(inputs["logits"][None], [instances], [meta])[0]
    data = result["pred_panoptic_seg"]
    return data.index_map[0], [255, *(info["label"] for info in data.segments_info)]


def check(expected: tuple[Tensor, list[int]], got: tuple[Tensor, list[int]]) -> None:
    """Compare classes and, up to ties of float32 logits, every pixel."""
    if got[1] != expected[1]:
        raise AssertionError("other segments")
    wrong = (got[0] != expected[0]).float().mean().item()
    if wrong >= 1e-5:
        raise AssertionError(f"{wrong:.1e} of the pixels differ")
