"""The multiway cut solvers against labels, components and objectives of the published solver.

Every parameter comes from the golden files; see ``tests/data/golden/cops/README.md``.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpanoptic.ops.amwc import (
    Solution,
    SolverOptions,
    grid_edges,
    objective,
    solve_graph,
    solve_graph_batch,
    solve_grid,
)
from mmpanoptic.ops.amwc.grid import flatten_edges
from tests.data.golden.cops.synthetic_scenes import edge_list, random_grid, scene
from tests.golden import golden_files
from tests.reference.amwc import is_feasible

SYSTEM = "cops"
LPMP = SolverOptions(mode="lpmp")
SCENE_KEYS = ("num_things", "margin", "noise", "aff_margin", "aff_noise")


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def instances(pattern: str) -> list:
    """One parameter per instance: its description and the file with its labels."""
    return [
        pytest.param(item, path.with_suffix(".npz"), id=f"{path.stem}-{item['name']}")
        for path in golden_files(SYSTEM, pattern)
        for item in json.loads(path.read_text())
    ]


class Case:
    """Costs of one instance."""

    def __init__(self, item: dict[str, Any]) -> None:
        size = (item["seed"], item["height"], item["width"], item["num_classes"])
        if "thing_ids" in item:
            things = item["thing_ids"]
            options = {key: item[key] for key in SCENE_KEYS}
            drawn = scene(*size, things, item["distances"], **options)
        else:
            things = item["things"]
            scales = (item["node_scale"], item["edge_scale"], item["edge_mean"])
            drawn = random_grid(*size, item["distances"], *scales)
        self.nodes, self.edges = drawn[0], drawn[1]
        self.distances = item["distances"]
        self.things = np.isin(np.arange(item["num_classes"]), things)

    def solve(self, symmetric: bool = False, **kwargs: Any) -> Solution:
        things = None if symmetric else self.things
        return solve_grid(self.nodes, self.edges, self.distances, things, **kwargs)

    def assert_consistent(self, solution: Solution, symmetric: bool = False) -> None:
        """Feasible, and of the objective that it claims."""
        pairs, costs = edge_list(self.edges, self.distances)
        things = np.zeros_like(self.things) if symmetric else self.things
        shape = self.nodes.shape[1:]
        cuts = flatten_edges(solution.cuts, shape, self.distances)
        assert is_feasible(pairs, solution.labels, solution.components, cuts, things)
        rows = self.nodes.reshape(len(self.nodes), -1).T
        expected = objective(rows, pairs, costs, solution.labels, solution.components)
        assert solution.objective == pytest.approx(expected, rel=1e-12)


@functools.lru_cache(maxsize=1)
def case_of(text: str) -> Case:
    return Case(json.loads(text))


def make_case(item: dict[str, Any]) -> Case:
    return case_of(json.dumps(item))  # tests of one instance follow each other


ALL = instances("solver_grid*.json") + instances("solver_scene*.json")


@pytest.mark.parametrize(("item", "path"), ALL)
class TestGrids:
    def test_the_instance_is_the_published_one(self, item, path):
        case = make_case(item)
        pairs, _ = edge_list(case.edges, case.distances)
        assert len(pairs) == item["num_edges"]
        assert np.array_equal(pairs, grid_edges(case.nodes.shape[1:], case.distances))
        if "node_cost_sum" in item:
            assert case.nodes.sum(dtype=np.float64) == pytest.approx(item["node_cost_sum"])

    def test_labels_and_components_are_those_of_the_published_solver(self, item, path):
        case, golden = make_case(item), load(path)
        solution = case.solve(options=LPMP, return_cuts=True)
        labels, components = (golden[f"{item['name']}_{key}"] for key in ("labels", "components"))
        assert np.array_equal(solution.labels.ravel(), labels.ravel())
        assert np.array_equal(solution.roots[solution.components].ravel(), components.ravel())
        assert solution.objective == pytest.approx(item["amwc_lpmp_objective"], rel=1e-9)
        case.assert_consistent(solution)

    def test_labels_of_the_symmetric_problem_are_those_of_the_published_solver(self, item, path):
        case = make_case(item)
        solution = case.solve(symmetric=True, options=LPMP, return_cuts=True)
        labels = load(path)[f"{item['name']}_mwc_labels"]
        assert np.array_equal(solution.labels.ravel(), labels.ravel())
        assert solution.objective == pytest.approx(item["mwc_lpmp_objective"], rel=1e-9)
        case.assert_consistent(solution, symmetric=True)

    @pytest.mark.parametrize("precision", ["float32", "float64"])
    def test_the_default_mode_is_never_worse(self, item, path, precision):
        case = make_case(item)
        solution = case.solve(options=SolverOptions(precision=precision), return_cuts=True)
        assert solution.objective <= item["amwc_lpmp_objective"] + 1e-6 * abs(solution.objective)
        bound = item["amwc_revalidated_objective"]
        assert solution.objective <= bound + 1e-4 * abs(bound)
        case.assert_consistent(solution)

    def test_local_search_and_considerate_gluing_only_lower_the_objective(self, item, path):
        case = make_case(item)
        plain = case.solve().objective
        glued = case.solve(options=SolverOptions(stuff_gluing="if_it_pays"), return_cuts=True)
        searched = case.solve(options=SolverOptions(local_search_rounds=3), return_cuts=True)
        slack = 1e-9 * abs(plain)
        assert glued.objective <= plain + slack
        assert searched.objective <= plain + slack
        case.assert_consistent(glued)
        case.assert_consistent(searched)


@pytest.fixture(
    scope="module", params=golden_files(SYSTEM, "solver_tiny*.npz"), ids=lambda p: p.stem
)
def tiny(request):
    return load(request.param)


def tiny_graphs(data: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    graphs = []
    offsets = {name: data[f"{name}_offset"] for name in ("node", "edge", "cost", "class")}
    for number, count in enumerate(data["num_nodes"]):
        part = {name: slice(*offset[number : number + 2]) for name, offset in offsets.items()}
        graphs.append(
            {
                "nodes": data["node_costs"][part["cost"]].reshape(count, -1),
                "edges": data["edges"][part["edge"]],
                "costs": data["edge_costs"][part["edge"]],
                "things": data["partitionable"][part["class"]],
                "labels": data["amwc_lpmp_labels"][part["node"]],
                "components": data["amwc_lpmp_components"][part["node"]],
                "cut": data["amwc_lpmp_cut"][part["edge"]],
                "mwc_labels": data["mwc_lpmp_labels"][part["node"]],
                "mwc_cut": data["mwc_lpmp_cut"][part["edge"]],
            }
        )
    return graphs


class TestTinyGraphs:
    def test_answers_are_those_of_the_published_solver(self, tiny):
        for number, graph in enumerate(tiny_graphs(tiny)):
            costs = graph["nodes"], graph["edges"], graph["costs"]
            got = solve_graph(*costs, graph["things"], LPMP, return_cuts=True)
            assert np.array_equal(got.labels, graph["labels"])
            assert np.array_equal(got.roots[got.components], graph["components"])
            assert np.array_equal(got.cuts[0], graph["cut"])
            assert got.objective == pytest.approx(tiny["amwc_lpmp_objective"][number], abs=1e-6)
            got = solve_graph(*costs, None, LPMP, return_cuts=True)
            assert np.array_equal(got.labels, graph["mwc_labels"])
            assert np.array_equal(got.cuts[0], graph["mwc_cut"])
            assert got.objective == pytest.approx(tiny["mwc_lpmp_objective"][number], abs=1e-6)

    @pytest.mark.parametrize(
        "options", [SolverOptions(), SolverOptions(local_search_rounds=5)], ids=["plain", "search"]
    )
    def test_nothing_is_below_the_optimum_and_the_mean_gap_is_smaller(self, tiny, options):
        graphs = tiny_graphs(tiny)
        gaps = []
        for number, graph in enumerate(graphs):
            costs = graph["nodes"], graph["edges"], graph["costs"]
            got = solve_graph(*costs, graph["things"], options, return_cuts=True)
            assert is_feasible(
                graph["edges"], got.labels, got.components, got.cuts[0], graph["things"]
            )
            gaps.append(got.objective - tiny["amwc_optimum"][number])
            symmetric = solve_graph(*costs, None, options)
            assert symmetric.objective >= tiny["mwc_optimum"][number] - 1e-5
        assert min(gaps) >= -1e-5
        assert np.mean(gaps) < np.mean(tiny["amwc_lpmp_objective"] - tiny["amwc_optimum"])

    def test_a_batch_of_graphs_gives_what_single_calls_give(self, tiny):
        graphs = tiny_graphs(tiny)
        graphs = [g for g in graphs if len(g["things"]) == len(graphs[0]["things"])]
        things = graphs[0]["things"]
        args = [[g[key] for g in graphs] for key in ("nodes", "edges", "costs")]
        for number, got in enumerate(solve_graph_batch(*args, things, num_threads=4)):
            alone = solve_graph(*(arg[number] for arg in args), things)
            assert np.array_equal(got.labels, alone.labels)
            assert got.objective == alone.objective


@pytest.mark.parametrize("path", golden_files(SYSTEM, "edges*.npz"), ids=lambda p: p.stem)
def test_edges_have_the_published_order_and_positions(path):
    golden = load(path)
    for name in sorted({key.split("_")[0] for key in golden}):
        shape = tuple(golden[f"{name}_shape"].tolist())
        distances, steps = (golden[f"{name}_{key}"].tolist() for key in ("distances", "intervals"))
        pairs = grid_edges(shape, distances, steps)
        assert np.array_equal(pairs, golden[f"{name}_pairs"])
        codes = [
            np.arange(2 * -(-shape[0] // step) * -(-shape[1] // step)).reshape(
                2, -(-shape[0] // step), -(-shape[1] // step)
            )
            for step in steps
        ]
        flat = flatten_edges(codes, shape, distances, steps)
        assert np.array_equal(flat, golden[f"{name}_position_codes"])
        # The solver reads the same edges: costs at those positions decide alone.
        costs = [np.sin(code * 1.7 + 1).astype(np.float32) for code in codes]
        nodes = np.cos(np.arange(3 * shape[0] * shape[1]) * 0.37).reshape(3, *shape)
        grid = solve_grid(nodes, costs, distances, np.array([False, True, True]), steps)
        flat_costs = flatten_edges(costs, shape, distances, steps)
        graph = solve_graph(nodes.reshape(3, -1).T, pairs, flat_costs, [False, True, True])
        assert grid.objective == pytest.approx(graph.objective, rel=1e-12)
        assert np.array_equal(grid.labels.ravel(), graph.labels)
