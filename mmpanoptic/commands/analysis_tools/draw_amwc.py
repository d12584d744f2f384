"""Draw a multiway cut: class costs, edge costs, cut edges and the resulting segments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmpanoptic import cli
from mmpanoptic.ops.amwc import Solution, SolverOptions, solve_grid
from mmpanoptic.ops.amwc.grid import valid_positions
from mmpanoptic.structures import LabelTable

EXAMPLES = """
  %(prog)s --out amwc.png
  %(prog)s --out noisy.png --noise 3 --mode lpmp
  %(prog)s --out mine.png --costs costs.npz
The file holds node_costs (K, H, W), things (K,) bool, and edge_costs_D (2, H, W) for every
distance D.
"""
CLASSES = [
    {"id": 1, "name": "sky", "isthing": 0, "color": (110, 160, 220)},
    {"id": 2, "name": "road", "isthing": 0, "color": (128, 90, 128)},
    {"id": 3, "name": "grass", "isthing": 0, "color": (110, 180, 90)},
    {"id": 4, "name": "ball", "isthing": 1, "color": (230, 120, 40)},
    {"id": 5, "name": "box", "isthing": 1, "color": (60, 60, 200)},
]
EXAMPLE_DISTANCES = (1, 8)


class Costs(NamedTuple):
    """One instance: (K, H, W) node costs, (2, H, W) edge costs per distance, mask of things."""

    nodes: np.ndarray
    edges: list[np.ndarray]
    distances: list[int]
    things: np.ndarray


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--out", type=Path, required=True, help="PNG to write")
    parser.add("--costs", type=Path, help="NPZ with costs; default: a generated scene")
    parser.add("--seed", type=int, default=1, help="of the generated scene")
    parser.add("--noise", type=cli.at_least(0, float), default=1.5, help="of the generated scene")
    parser.add("--mode", choices=("revalidate", "lpmp"), default="revalidate")
    parser.add("--scale", type=cli.at_least(1), default=4, help="size of a node in pixels")
    return parser


def read(path: Path) -> Costs:
    """Read costs from a file.

    Raises:
        ValueError: If an array is missing.
    """
    with np.load(path) as data:
        for name in ("node_costs", "things"):
            if name not in data:
                raise ValueError(f"{path} lacks {name}; it holds {', '.join(data.files)}")
        distances = sorted(int(n.rsplit("_", 1)[1]) for n in data if n.startswith("edge_costs_"))
        edges = [data[f"edge_costs_{distance}"] for distance in distances]
        return Costs(data["node_costs"], edges, distances, data["things"])


def make_example(seed: int, noise: float, height: int = 48, width: int = 80) -> Costs:
    """Draw balls and boxes over sky, grass and road, and what a network might say about them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    classes = np.where(y < height * 0.35, 0, np.where(x + y > width, 1, 2))
    segments = classes.copy()
    for number in range(9):
        radius, label = rng.integers(5, 9), 3 + number % 2
        dy, dx = y - rng.integers(8, height - 6), x - rng.integers(6, width - 6)
        inside = dy**2 + dx**2 < radius**2 if label == 3 else np.maximum(abs(dy), abs(dx)) < radius
        classes[inside], segments[inside] = label, 10 + number
    smooth = cv2.GaussianBlur(rng.normal(size=(height, width, len(CLASSES))), (0, 0), 2) * 4
    logits = (np.moveaxis(smooth, 2, 0) + rng.normal(size=(len(CLASSES), height, width))) * noise
    logits += 4 * (np.arange(len(CLASSES))[:, None, None] == classes)
    edges = []
    for distance in EXAMPLE_DISTANCES:
        cost = rng.normal(2.5, noise, size=(2, height, width))
        for axis in (0, 1):
            before, after = (0, 1) if distance == 1 else (distance // 2, distance // 2)
            apart = np.roll(segments, before, axis) != np.roll(segments, -after, axis)
            cost[axis] -= 5 * apart
            valid = np.zeros((height, width), bool)
            valid[valid_positions((height, width), distance, 1)[axis]] = True
            cost[axis] *= valid
        edges.append(cost.astype(np.float32))
    things = np.array([bool(label["isthing"]) for label in CLASSES])
    return Costs((-logits).astype(np.float32), edges, list(EXAMPLE_DISTANCES), things)


def label_table(things: np.ndarray) -> LabelTable:
    """Classes of the generated scene, or numbered ones for costs from a file."""
    if np.array_equal(things, [bool(label["isthing"]) for label in CLASSES]):
        return LabelTable.from_categories(CLASSES)
    return LabelTable.from_categories(
        [{"id": i + 1, "name": f"{i}", "isthing": int(flag)} for i, flag in enumerate(things)]
    )


def draw(costs: Costs, solution: Solution, scale: int) -> np.ndarray:
    """Draw six panels.

    Returns:
        np.ndarray: uint8 RGB.
    """
    from mmpanoptic.visualization.gallery import make_sheet
    from mmpanoptic.visualization.multicut import draw_class_costs, draw_cuts, draw_edge_costs
    from mmpanoptic.visualization.text import place_side_by_side

    table = label_table(costs.things)

    def grow(picture: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(picture, scale, 0), scale, 1)

    panels = [("node costs: cheapest class", grow(draw_class_costs(costs.nodes, table)))]
    shown = {costs.distances[0], costs.distances[-1]} if costs.distances else set()
    for distance, edge_costs, cuts in zip(costs.distances, costs.edges, solution.cuts, strict=True):
        if distance in shown:
            title = f"distance {distance}"
            panels.append((f"costs of row edges, {title}", grow(draw_edge_costs(edge_costs[0]))))
            panels.append((f"cut edges, {title}", grow(draw_cuts(cuts.astype(bool)))))
    panels.append(("labels and components", draw_segments(costs, solution, table, scale)))
    pictures = [place_side_by_side([panel]) for panel in panels]
    return make_sheet(pictures, columns=3)


def draw_segments(costs: Costs, solution: Solution, table: LabelTable, scale: int) -> np.ndarray:
    """Draw the panoptic map of a solution: stuff by class, things by component."""
    from mmpanoptic.visualization import draw_panoptic

    things = costs.things[solution.labels]
    code = np.where(things, solution.components + len(costs.things), solution.labels)
    values, index = np.unique(code, return_inverse=True)
    index = np.repeat(np.repeat(index.reshape(code.shape), scale, 0), scale, 1)
    first = {value: int(np.flatnonzero(code.ravel() == value)[0]) for value in values.tolist()}
    segments = [{"label": int(solution.labels.ravel()[first[v]])} for v in values.tolist()]
    grey = np.full((*index.shape, 3), 128, np.uint8)
    return draw_panoptic(grey, index + 1, segments, table)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Solve and draw."""
    from mmpanoptic.visualization import write_picture

    costs = make_example(args.seed, args.noise) if args.costs is None else read(args.costs)
    options = SolverOptions(mode=args.mode)
    solution = solve_grid(
        costs.nodes, costs.edges, costs.distances, costs.things, None, options, True
    )
    write_picture(args.out, draw(costs, solution, args.scale))
    yield (
        f"{args.out}: {len(solution.roots)} components, objective {solution.objective:.2f}, "
        f"{sum(int(cut.sum()) for cut in solution.cuts)} cut edges"
    )


main = cli.Command(build_parser, run)
