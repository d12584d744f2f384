from __future__ import annotations

import cv2
import numpy as np

from tests.tools.load_tool import load_tool

TOOL = "analysis_tools/draw_amwc.py"
tool = load_tool(TOOL)


def test_the_generated_scene_is_drawn_with_its_segments(run_tool):
    done = run_tool(TOOL, "--out", "amwc.png")
    assert "components, objective" in done.stdout
    picture = cv2.imread(str(run_tool.folder / "amwc.png"))
    height, width = 48 * 4, 80 * 4
    assert picture.shape[0] > 2 * height
    assert picture.shape[1] > 3 * width
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_the_solver_finds_the_objects_of_the_scene():
    costs = tool.make_example(1, 0.5)
    solution = tool.solve_grid(costs.nodes, costs.edges, costs.distances, costs.things)
    labels = solution.labels.ravel()[solution.roots]
    assert 7 <= costs.things[labels].sum() <= 12, "nine objects, some covered or split by others"


def test_costs_from_a_file_are_drawn(run_tool):
    costs = tool.make_example(0, 1.0)
    arrays = {f"edge_costs_{d}": e for d, e in zip(costs.distances, costs.edges, strict=True)}
    file = run_tool.folder / "costs.npz"
    np.savez(file, node_costs=costs.nodes[1:], things=costs.things[1:], **arrays)
    run_tool(TOOL, "--out", "mine.png", "--costs", file, "--mode", "lpmp", "--scale", 2)
    assert cv2.imread(str(run_tool.folder / "mine.png")) is not None


def test_a_file_without_costs_is_an_error(run_tool):
    file = run_tool.folder / "wrong.npz"
    np.savez(file, something=np.zeros(3))
    done = run_tool(TOOL, "--out", "x.png", "--costs", file, status=1)
    assert "lacks node_costs; it holds something" in done.stderr
