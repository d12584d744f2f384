"""The multiway cut solver: what it accepts, what it promises, and what it says otherwise."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

import numpy as np
import pytest

from mmpanoptic.ops.amwc import (
    SolverOptions,
    objective,
    solve_graph,
    solve_graph_batch,
    solve_grid,
    solve_grid_batch,
)
from mmpanoptic.ops.amwc.grid import flatten_edges, grid_edges
from tests.reference.amwc import is_feasible, optimum
from tests.reference.amwc_baseline import solve_plainly

DISTANCES = [1, 4]
THINGS = np.array([False, False, True, True])
LPMP = SolverOptions(mode="lpmp")
ALL_OPTIONS = [
    SolverOptions(),
    LPMP,
    SolverOptions(precision="float64"),
    SolverOptions(stuff_gluing="if_it_pays"),
    SolverOptions(local_search_rounds=5),
    SolverOptions(mode="lpmp", stuff_gluing="if_it_pays", local_search_rounds=2),
]


def draw_grid(seed=0, height=12, width=17, num_labels=4, distances=DISTANCES, scale=1.0):
    rng = np.random.default_rng(seed)
    nodes = rng.normal(size=(num_labels, height, width)).astype(np.float32)
    edges = [
        (rng.normal(0.2, scale, size=(2, height, width))).astype(np.float32) for _ in distances
    ]
    return nodes, edges


def draw_graph(seed, num_nodes=7, num_labels=3, num_edges=14):
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, num_nodes, size=(num_edges, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    things = rng.random(num_labels) < 0.5
    return rng.normal(size=(num_nodes, num_labels)), edges, rng.normal(size=len(edges)), things


def check_grid(nodes, edges, distances, things, solution, sampling=None):
    """Feasible, contiguous components, and the objective that is claimed."""
    shape = nodes.shape[1:]
    pairs = grid_edges(shape, distances, sampling)
    cuts = flatten_edges(solution.cuts, shape, distances, sampling)
    components = solution.components.ravel()
    assert is_feasible(pairs, solution.labels, components, cuts, things)
    assert np.array_equal(np.unique(components), np.arange(len(solution.roots)))
    assert np.array_equal(components[solution.roots], np.arange(len(solution.roots)))
    expected = objective(
        nodes.reshape(len(nodes), -1).T,
        pairs,
        flatten_edges(edges, shape, distances, sampling),
        solution.labels,
        components,
    )
    assert solution.objective == pytest.approx(expected, rel=1e-9)


class TestSolutions:
    @pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
    @pytest.mark.parametrize("num_things", [0, 2, 4])
    def test_are_feasible_and_cost_what_they_claim(self, options, num_things):
        things = np.arange(4) >= 4 - num_things
        for seed in range(5):
            nodes, edges = draw_grid(seed)
            solution = solve_grid(nodes, edges, DISTANCES, things, None, options, True)
            check_grid(nodes, edges, DISTANCES, things, solution)

    @pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
    def test_of_the_symmetric_problem_are_cut_where_labels_differ(self, options):
        for seed in range(5):
            nodes, edges = draw_grid(seed)
            solution = solve_grid(nodes, edges, DISTANCES, None, None, options, True)
            check_grid(nodes, edges, DISTANCES, np.zeros(4, bool), solution)

    @pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
    def test_never_cost_less_than_the_optimum(self, options):
        best = []
        for seed in range(60):
            nodes, edges, costs, things = draw_graph(seed)
            got = solve_graph(nodes, edges, costs, things, options, return_cuts=True)
            assert is_feasible(edges, got.labels, got.components, got.cuts[0], things)
            best.append(got.objective - optimum(nodes, edges, costs, things))
        assert min(best) > -1e-5
        assert np.mean(np.array(best) < 1e-5) > 0.3

    def test_are_better_by_default_than_those_of_the_published_solver(self):
        costs = {"lpmp": 0.0, "revalidate": 0.0}
        for seed in range(10):
            nodes, edges = draw_grid(seed, 20, 20, scale=2.0)
            for mode in costs:
                options = SolverOptions(mode=mode)
                costs[mode] += solve_grid(nodes, edges, DISTANCES, THINGS, None, options).objective
        assert costs["revalidate"] < costs["lpmp"]

    def test_take_the_last_of_equal_labels(self):
        nodes = np.zeros((3, 2, 2), np.float32)
        for options in ALL_OPTIONS:
            got = solve_grid(nodes, np.zeros((1, 2, 2, 2)), [1], [True] * 3, None, options)
            assert (got.labels == 2).all()

    def test_do_not_change_from_run_to_run(self):
        nodes, edges = draw_grid(3)
        nodes[:, ::2] = 0  # dropped pixels: masses of ties
        for options in ALL_OPTIONS:
            one, two = (
                solve_grid(nodes, edges, DISTANCES, THINGS, None, options) for _ in range(2)
            )
            assert np.array_equal(one.labels, two.labels)
            assert np.array_equal(one.components, two.components)


class TestPublishedMode:
    @pytest.mark.parametrize("symmetric", [False, True])
    def test_agrees_with_a_plain_statement_of_the_algorithm(self, symmetric):
        things = None if symmetric else THINGS
        for seed in range(8):
            nodes, edges = draw_grid(seed, 30, 30)
            pairs = grid_edges((30, 30), DISTANCES)
            costs = flatten_edges(edges, (30, 30), DISTANCES)
            labels, roots, objective = solve_plainly(nodes.reshape(4, -1).T, pairs, costs, things)
            got = solve_grid(nodes, edges, DISTANCES, things, None, LPMP)
            assert np.array_equal(got.labels.ravel(), labels)
            assert got.objective == pytest.approx(objective, rel=1e-12)
            if not symmetric:
                assert np.array_equal(got.roots[got.components].ravel(), roots)


class TestOptions:
    def test_small_things_are_dropped_and_stuff_is_not(self):
        nodes, edges = draw_grid(1)
        full = solve_grid(nodes, edges, DISTANCES, THINGS)
        options = SolverOptions(min_instance_size=3)
        got = solve_grid(nodes, edges, DISTANCES, THINGS, None, options)
        size = np.bincount(full.components.ravel())[full.components]
        dropped = THINGS[full.labels] & (size < 3)
        assert dropped.any()
        assert (size[~THINGS[full.labels]] < 3).any()
        assert np.array_equal(got.components < 0, dropped)
        assert np.array_equal(got.labels, full.labels)
        assert got.objective == full.objective
        assert np.isin(got.roots, full.roots).all()
        kept = ~dropped
        assert np.array_equal(got.roots[got.components[kept]], full.roots[full.components[kept]])

    def test_gluing_only_if_it_pays_gives_a_repelled_region_another_label(self):
        # Two nodes prefer stuff 0 a little, and their edge repels a lot.
        nodes, edges, costs = [[0.0, 1.0], [0.0, 1.0]], [[0, 1]], [-5.0]
        things = [False, False]
        published = solve_graph(nodes, edges, costs, things)
        assert published.labels.tolist() == [0, 0]
        assert published.objective == 0
        options = SolverOptions(stuff_gluing="if_it_pays")
        other = solve_graph(nodes, edges, costs, things, options)
        assert sorted(other.labels.tolist()) == [0, 1]
        assert other.objective == -4

    def test_gluing_stays_where_another_label_costs_more(self):
        options = SolverOptions(stuff_gluing="if_it_pays")
        got = solve_graph([[0.0, 9.0], [0.0, 9.0]], [[0, 1]], [-5.0], [False, False], options)
        assert got.labels.tolist() == [0, 0]
        assert got.components.tolist() == [0, 0]

    @pytest.mark.parametrize("symmetric", [False, True])
    def test_local_search_lowers_the_objective_of_noise(self, symmetric):
        things = None if symmetric else THINGS
        gain = 0.0
        for seed in range(5):
            nodes, edges = draw_grid(seed, 24, 24)
            plain = solve_grid(nodes, edges, DISTANCES, things).objective
            options = SolverOptions(local_search_rounds=5)
            searched = solve_grid(nodes, edges, DISTANCES, things, None, options).objective
            assert searched <= plain + 1e-6
            gain += plain - searched
        assert gain > 10

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("mode", "exact"),
            ("precision", "float16"),
            ("stuff_gluing", "never"),
            ("min_instance_size", -1),
            ("local_search_rounds", True),
        ],
    )
    def test_unknown_values_are_refused(self, name, value):
        with pytest.raises(ValueError, match=name):
            SolverOptions(**{name: value})


class TestShapes:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 5), (2, 40)])
    @pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
    def test_lines_and_grids_smaller_than_a_distance(self, shape, options):
        distances = [1, 4, 16]
        nodes, edges = draw_grid(0, *shape, distances=distances)
        solution = solve_grid(nodes, edges, distances, THINGS, None, options, True)
        assert solution.labels.shape == shape
        check_grid(nodes, edges, distances, THINGS, solution)

    def test_one_label(self):
        nodes, edges = draw_grid(0, num_labels=1)
        for thing in (False, True):
            solution = solve_grid(nodes, edges, DISTANCES, [thing], return_cuts=True)
            assert (solution.labels == 0).all()
            check_grid(nodes, edges, DISTANCES, np.array([thing]), solution)
            assert (len(solution.roots) > 1) == thing

    def test_no_distances(self):
        nodes, _ = draw_grid(0)
        solution = solve_grid(nodes, [], [], THINGS)
        assert np.array_equal(solution.labels, nodes.argmin(0))
        assert len(solution.roots) == nodes[0].size

    def test_sampled_edges(self):
        rng = np.random.default_rng(0)
        nodes, _ = draw_grid(0, 19, 22)
        edges = [rng.normal(size=(2, -(-19 // s), -(-22 // s))) for s in (1, 2, 4)]
        solution = solve_grid(nodes, edges, [1, 4, 8], THINGS, [1, 2, 4], return_cuts=True)
        check_grid(nodes, edges, [1, 4, 8], THINGS, solution, [1, 2, 4])

    def test_values_without_an_edge_mean_nothing(self):
        nodes, edges = draw_grid(0)
        expected = solve_grid(nodes, edges, DISTANCES, THINGS)
        edges[0][0, -1] = edges[0][1, :, -1] = np.nan
        edges[1][0, :2] = np.inf
        got = solve_grid(nodes, edges, DISTANCES, THINGS)
        assert np.array_equal(got.components, expected.components)

    def test_arrays_of_any_layout_and_type(self):
        nodes, edges = draw_grid(0)
        expected = solve_grid(nodes, edges, DISTANCES, THINGS).labels
        turned = np.asfortranarray(nodes)
        stacked = np.stack(edges)[:, :, ::-1][:, :, ::-1]
        assert np.array_equal(solve_grid(turned, stacked, DISTANCES, THINGS).labels, expected)
        whole = np.array([[3, 0], [1, 2]])
        assert solve_graph(whole, [[0, 1]], [5], [True, True]).labels.tolist() == [1, 1]

    def test_more_than_a_thousand_instances_of_a_class(self):
        nodes = np.stack([np.zeros((40, 40)), np.full((40, 40), -1.0)])
        solution = solve_grid(nodes, [np.full((2, 40, 40), -1.0)], [1], [False, True])
        assert len(solution.roots) == 1600
        assert solution.components.max() == 1599


class TestGraphs:
    def test_parallel_edges_count_together(self):
        nodes = [[0.0, 3.0], [3.0, 0.0], [0.0, 1.0]]
        edges, costs = [[0, 1], [1, 2]], [4.0, 0.5]
        split, parts = [[0, 1], [1, 0], [1, 2], [0, 1]], [5.0, -2.0, 0.5, 1.0]
        for options in ALL_OPTIONS:
            one = solve_graph(nodes, edges, costs, [False, True], options)
            other = solve_graph(nodes, split, parts, [False, True], options)
            assert np.array_equal(one.labels, other.labels)
            assert one.objective == pytest.approx(other.objective)

    def test_nodes_without_edges_take_their_cheapest_label(self):
        got = solve_graph([[1.0, 0.0], [0.0, 1.0]], np.zeros((0, 2), int), [], [True, True])
        assert got.labels.tolist() == [1, 0]
        assert got.components.tolist() == [0, 1]

    def test_a_hub_with_thousands_of_neighbours(self):
        rng = np.random.default_rng(0)
        leaves = 5000
        edges = np.stack([np.zeros(leaves, int), np.arange(1, leaves + 1)], 1)
        ring = np.stack([edges[:, 1], np.roll(edges[:, 1], 1)], 1)
        pairs = np.concatenate([edges, ring])
        costs = rng.normal(0.1, 1, len(pairs))
        nodes = rng.normal(size=(leaves + 1, 3))
        things = np.array([False, True, True])
        for options in ALL_OPTIONS:
            got = solve_graph(nodes, pairs, costs, things, options, return_cuts=True)
            assert is_feasible(pairs, got.labels, got.components, got.cuts[0], things)


class TestErrors:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_name_the_node_or_edge_with_a_wrong_cost(self, bad):
        nodes, edges = draw_grid()
        nodes[2, 1, 3] = bad
        with pytest.raises(ValueError, match="node 20 for label 2 is NaN or infinite"):
            solve_grid(nodes, edges, DISTANCES, THINGS)
        nodes, edges = draw_grid()
        edges[1][0, 5, 3] = bad
        with pytest.raises(ValueError, match="edge between nodes 54 and 122"):
            solve_grid(nodes, edges, DISTANCES, THINGS)

    def test_of_a_batch_name_the_instance(self):
        nodes, edges = draw_grid()
        with pytest.raises(ValueError, match="instance 1: the cost of node 0"):
            solve_grid_batch([nodes, nodes * np.nan], [edges] * 2, DISTANCES, THINGS)
        with pytest.raises(ValueError, match="instance 1: edge_costs of distance 1"):
            solve_grid_batch([nodes, nodes[:, 1:]], [edges] * 2, DISTANCES, THINGS)
        with pytest.raises(ValueError, match="2 instances, edge_costs has 1"):
            solve_grid_batch([nodes, nodes], [edges], DISTANCES, THINGS)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"node_costs": np.zeros((4, 12))}, "labels, height, width"),
            ({"node_costs": np.zeros((4, 0, 17))}, "none of them 0"),
            ({"node_costs": np.zeros((4, 12, 17), complex)}, "real numbers"),
            ({"edge_costs": [np.zeros((2, 12, 17))]}, "1 arrays for 2 distances"),
            ({"edge_costs": np.zeros((2, 2, 12, 16))}, r"must be \(2, 12, 17\)"),
            ({"distances": [1, 3]}, "1 or even"),
            ({"distances": [4, 4]}, "must differ"),
            ({"sampling": [1]}, "2 intervals"),
            ({"sampling": [1, 0]}, "intervals >= 1"),
            ({"partitionable": [True]}, r"shape \(4,\)"),
            ({"partitionable": [0, 0, 1, 1]}, "bool mask"),
        ],
    )
    def test_say_what_a_grid_needs(self, change, message):
        nodes, edges = draw_grid()
        given = {"node_costs": nodes, "edge_costs": edges, "distances": DISTANCES}
        with pytest.raises(ValueError, match=message):
            solve_grid(**{**given, "partitionable": THINGS, **change})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"node_costs": np.zeros((0, 2))}, "empty graph"),
            ({"edges": [[0, 2]]}, r"0\.\.1"),
            ({"edges": [[0, -1]]}, r"0\.\.1"),
            ({"edges": [[1, 1]]}, "to itself"),
            ({"edges": [[0.0, 1.0]]}, "integers"),
            ({"edges": [[0, 1], [1, 0]]}, r"shape \(1, 2\)"),
            ({"edge_costs": [[1.0]]}, r"\(edges,\)"),
        ],
    )
    def test_say_what_a_graph_needs(self, change, message):
        given = {"node_costs": np.zeros((2, 2)), "edges": [[0, 1]], "edge_costs": [1.0]}
        with pytest.raises(ValueError, match=message):
            solve_graph(**{**given, "partitionable": [True, True], **change})


class TestThreads:
    def test_their_number_does_not_change_the_answers(self):
        grids = [draw_grid(seed, 10 + seed, 15) for seed in range(6)]
        nodes, edges = [g[0] for g in grids], [g[1] for g in grids]
        answers = [
            solve_grid_batch(nodes, edges, DISTANCES, THINGS, num_threads=count)
            for count in (1, 3, 64)
        ]
        for same in zip(*answers, strict=True):
            assert len({solution.objective for solution in same}) == 1
            assert all(np.array_equal(s.components, same[0].components) for s in same)

    def test_instances_of_a_symmetric_batch_may_differ_in_their_number_of_labels(self):
        grids = [draw_grid(seed, num_labels=3 + seed) for seed in range(3)]
        answers = solve_grid_batch([g[0] for g in grids], [g[1] for g in grids], DISTANCES, None)
        for (nodes, edges), got in zip(grids, answers, strict=True):
            alone = solve_grid(nodes, edges, DISTANCES, None)
            assert np.array_equal(got.labels, alone.labels)

    def test_an_empty_batch_has_no_answers(self):
        assert solve_grid_batch([], [], DISTANCES, THINGS) == []
        assert solve_graph_batch([], [], [], THINGS) == []

    def test_python_runs_on_while_the_solver_works(self):
        nodes, edges = draw_grid(0, 200, 200)
        ticks = []
        done = threading.Event()

        def solve():
            solve_grid(nodes, edges, DISTANCES, THINGS)
            done.set()

        worker = threading.Thread(target=solve)
        worker.start()
        while not done.wait(1e-4):
            ticks.append(1)
        worker.join()
        assert len(ticks) > 5

    def test_several_python_threads_may_solve_at_once(self):
        grids = [draw_grid(seed, 40, 40) for seed in range(4)]
        expected = [solve_grid(*grid, DISTANCES, THINGS).objective for grid in grids]
        got = [None] * len(grids)

        def solve(number):
            got[number] = solve_grid(*grids[number], DISTANCES, THINGS).objective

        workers = [threading.Thread(target=solve, args=(n,)) for n in range(len(grids))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert got == expected

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
    def test_a_forked_process_can_solve_after_its_parent_did(self):
        nodes, edges = draw_grid(0)
        expected = solve_grid_batch([nodes] * 2, [edges] * 2, DISTANCES, THINGS, num_threads=2)
        child = os.fork()
        if child == 0:
            got = solve_grid_batch([nodes] * 2, [edges] * 2, DISTANCES, THINGS, num_threads=2)
            os._exit(0 if got[1].objective == expected[1].objective else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @pytest.mark.parametrize("count", [0, -1, 1.5])
    def test_an_impossible_number_is_refused(self, count):
        nodes, edges = draw_grid()
        with pytest.raises(ValueError, match="num_threads"):
            solve_grid_batch([nodes], [edges], DISTANCES, THINGS, num_threads=count)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_ctrl_c_ends_a_call_in_the_middle(num_threads):
    nodes, edges = draw_grid(height=1024, width=1024, num_labels=8)
    things = np.arange(8) >= 4
    batch = ([nodes] * 8, [edges] * 8, DISTANCES, things)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        solve_grid_batch(*batch, num_threads=num_threads)
    # The whole batch takes tens of seconds.
    assert time.perf_counter() - start < 5
    nodes, edges = draw_grid()
    check_grid(
        nodes,
        edges,
        DISTANCES,
        THINGS,
        solve_grid(nodes, edges, DISTANCES, THINGS, return_cuts=True),
    )


def test_handlers_of_signals_that_raise_nothing_let_the_call_go_on():
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    nodes, edges = draw_grid(height=600, width=600)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15, 0.15)
        solution = solve_grid(nodes, edges, DISTANCES, THINGS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen
    again = solve_grid(nodes, edges, DISTANCES, THINGS)
    assert np.array_equal(again.components, solution.components)
