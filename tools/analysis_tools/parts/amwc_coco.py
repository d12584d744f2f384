"""Asymmetric multiway cut of a COCO image at stride 4, with 133 classes."""

from __future__ import annotations

from typing import Any

from mmpanoptic.ops.amwc import solve_grid
from tests.reference.amwc_baseline import check_objectives, make_scene, solve_plainly

DESCRIPTION = "costs of classes and of edges at distances 1 to 32 to labels and components."
BASELINE = "the published algorithm in plain C++: std::priority_queue, std::map, doubles."
CASES = {"160x160": {"seed": 4, "height": 160, "width": 160, "num_things": 14, "noise": 3.0}}


def make_inputs(size: str = "default", **case: Any) -> dict[str, Any]:
    """Draw a scene and what the network would say about it."""
    shrink = {"default": 1, "small": 2}[size]
    case["height"] //= shrink
    case["width"] //= shrink
    return make_scene("coco", **case)


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
