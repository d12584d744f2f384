"""Targets of SOLOv2 for a street scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmpanoptic.models.instance_heads.solov2_targets import (
    GridLevels,
    SOLOv2Targets,
    make_solov2_targets,
)
from tests.reference import solov2 as reference

DESCRIPTION = "Targets of SOLOv2, one 1024 x 2048 image with 20 instances."
BASELINE = "instance by instance, a copy of the mask for each cell (tests/reference/solov2.py)."

SIZES = {"default": (1024, 2048), "small": (128, 256)}
GRIDS = (40, 36, 24, 16, 12)
RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
NUM_CLASSES = 8


def make_inputs(size: str = "default", instances: int = 20) -> dict[str, Any]:
    """Draw ellipses of all sizes."""
    height, width = SIZES[size]
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    masks = np.zeros((instances, height, width), np.uint8)
    boxes = np.zeros((instances, 4), np.float32)
    for k in range(instances):
        radius = height * 0.02 * 1.18**k
        center = rng.uniform(0.1, 0.9, 2) * (height, width)
        masks[k] = ((y - center[0]) / radius) ** 2 + ((x - center[1]) / radius / 0.8) ** 2 < 1
        rows, columns = masks[k].any(1).nonzero()[0], masks[k].any(0).nonzero()[0]
        boxes[k] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    found = InstanceData(
        bboxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(rng.integers(0, NUM_CLASSES, instances)),
        masks=torch.from_numpy(masks),
    )
    return {"instances": found, "feat_size": (height // 4, width // 4)}


def baseline(inputs: dict[str, Any]) -> list[reference.LevelTargets]:
    """Loop over instances and cells."""
    found = inputs["instances"]
    return reference.make_targets(
        found.bboxes, found.labels, found.masks, NUM_CLASSES, inputs["feat_size"], GRIDS, RANGES
    )


def ours(inputs: dict[str, Any]) -> SOLOv2Targets:
    """Compute all cells at once and store each mask once."""
    levels = GridLevels(GRIDS, RANGES, 0.2)
    return make_solov2_targets([inputs["instances"]], levels, NUM_CLASSES, inputs["feat_size"])


def check(expected: list[reference.LevelTargets], got: SOLOv2Targets) -> None:
    """Compare classes, cells and masks."""
    start = 0
    for level, grid in zip(expected, GRIDS, strict=True):
        end = start + grid * grid
        labels = got.labels[0, start:end].view(grid, grid)
        np.testing.assert_array_equal(labels, level.labels)
        inside = (got.cell >= start) & (got.cell < end)
        np.testing.assert_array_equal(got.cell[inside] - start, level.cells)
        np.testing.assert_array_equal(got.masks[got.mask[inside]], level.masks)
        start = end
