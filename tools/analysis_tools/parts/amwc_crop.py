"""What the differentiable layer solves per training crop: one AMWC and five perturbed MWCs."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmpanoptic.ops.amwc import solve_grid, solve_grid_batch
from tests.reference.amwc_baseline import check_objectives, make_scene, solve_plainly

DESCRIPTION = "one AMWC and five MWCs whose labels are the segments, costs perturbed."
BASELINE = "the published algorithms in plain C++: std::priority_queue, std::map, doubles."
NUM_SAMPLES = 5
SIZES = {"default": (128, 256), "small": (64, 128)}
MWC_SLACK = 0.005  # both are greedy; single instances differ in either direction


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Draw a scene; its segments become labels of their own, with randomly perturbed costs."""
    height, width = SIZES[size]
    inputs = dict(make_scene("cityscapes", 1, height, width, 24, 2.0))
    nodes, things = inputs["nodes"], inputs["things"]
    solution = solve_grid(nodes, inputs["edges"], inputs["distances"], things)
    labels = solution.labels.ravel()[solution.roots]
    stuff = [label for label in range(len(nodes)) if not (things[label] and label in labels)]
    segments = [label for label in labels.tolist() if things[label]]
    columns = np.concatenate([nodes[stuff], nodes[segments]])
    rng = np.random.default_rng(0)
    inputs["perturbed"] = [
        (columns + rng.normal(size=columns.shape) * 0.5).astype(np.float32)
        for _ in range(NUM_SAMPLES)
    ]
    inputs["perturbed_rows"] = [
        np.ascontiguousarray(costs.reshape(len(costs), -1).T) for costs in inputs["perturbed"]
    ]
    return inputs


def baseline(inputs: dict[str, Any]) -> list[float]:
    """Solve one after the other with the plain solver; the objectives."""
    pairs, costs = inputs["pairs"], inputs["costs"]
    forward = solve_plainly(inputs["rows"], pairs, costs, inputs["things"])[2]
    return [forward, *(solve_plainly(r, pairs, costs)[2] for r in inputs["perturbed_rows"])]


def ours(inputs: dict[str, Any]) -> list[float]:
    """Solve with the defaults on one thread; the objectives."""
    edges, distances = inputs["edges"], inputs["distances"]
    forward = solve_grid(inputs["nodes"], edges, distances, inputs["things"])
    samples = solve_grid_batch(
        inputs["perturbed"], [edges] * NUM_SAMPLES, distances, None, num_threads=1
    )
    return [forward.objective, *(sample.objective for sample in samples)]


def check(expected: list[float], got: list[float]) -> None:
    """Compare the objectives."""
    check_objectives(expected[0], got[0])
    for plain, sample in zip(expected[1:], got[1:], strict=True):
        check_objectives(plain + MWC_SLACK * abs(plain), sample)


def note(expected: list[float], got: list[float]) -> str:
    """State the objectives."""
    means = [np.mean(values[1:]) for values in (expected, got)]
    return (
        f"objectives AMWC {expected[0]:.2f}, MWC (mean) {means[0]:.2f} (baseline); "
        f"AMWC {got[0]:.2f}, MWC {means[1]:.2f} (ours)"
    )
