"""Asymmetric multiway cut of Cityscapes images at stride 4; 256 x 512 is the full size."""

from __future__ import annotations

from typing import Any

from mmpanoptic.ops.amwc import solve_grid
from tests.reference.amwc_baseline import check_objectives, make_scene, solve_plainly

DESCRIPTION = "costs of classes and of edges at distances 1 to 64 to labels and components."
BASELINE = "the published algorithm in plain C++: std::priority_queue, std::map, doubles."
CASES = {
    "64x128": {"seed": 5, "height": 64, "width": 128, "num_things": 12, "noise": 2.0},
    "128x256": {"seed": 1, "height": 128, "width": 256, "num_things": 24, "noise": 2.0},
    "256x512": {"seed": 2, "height": 256, "width": 512, "num_things": 40, "noise": 3.0},
    "256x512-hard": {"seed": 3, "height": 256, "width": 512, "num_things": 60, "noise": 4.0},
    "512x1024": {"seed": 6, "height": 512, "width": 1024, "num_things": 60, "noise": 3.0},
}


def make_inputs(size: str = "default", **case: Any) -> dict[str, Any]:
    """Draw a scene and what the network would say about it."""
    shrink = {"default": 1, "small": 2}[size]
    case["height"] //= shrink
    case["width"] //= shrink
    return make_scene("cityscapes", **case)


def baseline(inputs: dict[str, Any]) -> float:
    """Solve with the plain solver; the objective."""
    return solve_plainly(inputs["rows"], inputs["pairs"], inputs["costs"], inputs["things"])[2]


def ours(inputs: dict[str, Any]) -> float:
    """Solve with the defaults; the objective."""
    keys = ("nodes", "edges", "distances", "things")
    return solve_grid(*(inputs[key] for key in keys)).objective


def check(expected: float, got: float) -> None:
    """Compare the objectives."""
    check_objectives(expected, got)


def note(expected: float, got: float) -> str:
    """State the objectives."""
    return f"objective {expected:.2f} (baseline), {got:.2f} (ours)"
