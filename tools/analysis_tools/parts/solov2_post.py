"""Post-processing of SOLOv2 with many candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion_heads import SOLOv2FusionHead
from mmpanoptic.models.postprocess.solov2_selection import suppress_neighbours
from tests.reference import solov2 as reference

DESCRIPTION = "SOLOv2's masks, 1024 x 2048, about 1700 candidates, 256 channels, 100 instances."
BASELINE = "all candidate masks at once, all instances enlarged twice (tests/reference/solov2.py)."

SIZES = {"default": (1024, 2048), "small": (256, 512)}
GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
CHANNELS = {"default": 256, "small": 16}
NUM_CLASSES = 8
POLYNOMIAL = 5
"""Channels that hold 1, x, y, x^2 and y^2: filters with them make discs."""


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Let every cell near an object predict a disc around it."""
    height, width = (side // 4 for side in SIZES[size])
    rng = np.random.default_rng(0)
    cells = np.concatenate([_centers(side) for side in GRIDS])
    objects = rng.uniform(0.03, 0.97, (150, 2))
    radius = rng.uniform(0.02, 0.12, len(objects))
    distance = np.linalg.norm(cells[:, None] - objects, axis=2)
    owner = distance.argmin(1)
    away = distance.min(1) / radius[owner]
    scores = np.clip(0.95 - 0.6 * away + rng.normal(0, 0.05, len(cells)), 0.001, 0.999)
    cls = np.full((NUM_CLASSES, len(cells)), -6.0)
    cls[owner % NUM_CLASSES, np.arange(len(cells))] = np.log(scores / (1 - scores))
    feats = _features(height, width, CHANNELS[size], rng)
    kernels = _discs(objects[owner], radius[owner], CHANNELS[size], rng)
    return {
        "cls_logits": torch.from_numpy(cls.astype(np.float32)),
        "kernels": torch.from_numpy(kernels.astype(np.float32)),
        "mask_feats": torch.from_numpy(feats.astype(np.float32)),
        "meta": {"img_shape": SIZES[size], "ori_shape": SIZES[size]},
    }


def _centers(side: int) -> np.ndarray:
    place = (np.arange(side) + 0.5) / side
    return np.stack(np.meshgrid(place, place, indexing="ij"), 2).reshape(-1, 2)


def _features(height: int, width: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    noise = rng.random((channels - POLYNOMIAL, height, width)) * 0.5
    return np.concatenate([np.stack([np.ones_like(x), x, y, x**2, y**2]), noise])


def _discs(
    centers: np.ndarray, radius: np.ndarray, channels: int, rng: np.random.Generator
) -> np.ndarray:
    """Make filters ``(E, P)`` of ``sharpness * (radius^2 - distance^2)``, and some noise."""
    cy, cx = (centers + rng.normal(0, 0.1, centers.shape) * radius[:, None]).T
    sharp = 12 / radius**2
    one = sharp * (radius**2 - cx**2 - cy**2)
    exact = np.stack([one, 2 * sharp * cx, 2 * sharp * cy, -sharp, -sharp])
    noise = rng.normal(0, 0.3, (channels - POLYNOMIAL, len(centers)))
    return np.concatenate([exact, noise])


def baseline(inputs: dict[str, Any]) -> InstanceData:
    """Compute everything at full size."""
    scores = suppress_neighbours(inputs["cls_logits"], GRIDS)
    sides = zip(GRIDS, STRIDES, strict=True)
    strides = torch.cat([torch.full((side * side,), float(stride)) for side, stride in sides])
    masks, labels, scores = reference.get_instances(
        scores.t(),
        inputs["kernels"].t(),
        inputs["mask_feats"][None],
        strides,
        inputs["meta"]["img_shape"],
        inputs["meta"]["ori_shape"],
    )
    return InstanceData(masks=masks, labels=labels, scores=scores)


def ours(inputs: dict[str, Any]) -> InstanceData:
    """Compute the masks that can win, and enlarge them in their windows."""
    head = SOLOv2FusionHead(range(NUM_CLASSES), GRIDS, STRIDES)
    maps = (inputs["cls_logits"][None], inputs["kernels"][None], inputs["mask_feats"][None])
    return head.predict(None, maps, [inputs["meta"]])[0]["pred_instances"]


def check(expected: InstanceData, got: InstanceData) -> None:
    """Compare scores, classes and masks."""
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(got.labels, expected.labels)
    different = (expected.masks != got.masks).float().mean().item()
    np.testing.assert_array_less(different, 1e-4)
