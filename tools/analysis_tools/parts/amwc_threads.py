"""Two images on two threads of the solver against one after the other."""

from __future__ import annotations

from typing import Any

from mmpanoptic.ops.amwc import Solution, solve_grid_batch
from tests.reference.amwc_baseline import make_scene

DESCRIPTION = "two images of 256 x 512 on two threads; 2 / ratio is their time over that of one."
BASELINE = "the same solver on one thread."
SIZES = {"default": (256, 512), "small": (128, 256)}


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Draw two scenes."""
    scenes = [make_scene("cityscapes", 2, *SIZES[size], 40, 3.0)] * 2
    return {
        "node_costs": [scene["nodes"] for scene in scenes],
        "edge_costs": [scene["edges"] for scene in scenes],
        "distances": scenes[0]["distances"],
        "partitionable": scenes[0]["things"],
    }


def baseline(inputs: dict[str, Any]) -> list[Solution]:
    """Solve one after the other."""
    return solve_grid_batch(**inputs, num_threads=1)


def ours(inputs: dict[str, Any]) -> list[Solution]:
    """Solve at once."""
    return solve_grid_batch(**inputs, num_threads=2)


def check(expected: list[Solution], got: list[Solution]) -> None:
    """Compare every component."""
    for one, other in zip(expected, got, strict=True):
        if (one.components != other.components).any():
            raise AssertionError("the components depend on the number of threads")
