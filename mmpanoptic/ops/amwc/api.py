"""Solve multiway cuts of grids and graphs, one at a time or several on threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .compiled import load_solver


@dataclass(frozen=True)
class SolverOptions:
    """How to solve.

    Args:
        mode: "revalidate" (default) checks a join gain again before it acts on it. "lpmp" gives
            the labels and component roots of the published solver, with outdated gains and in
            double precision; for parity with published results.
        precision: "float32" (default) or "float64", the type of gains and label costs; "lpmp"
            always computes in float64.
        stuff_gluing: "published" (default) joins adjacent regions of one stuff label at any price,
            as the problem demands of equal labels. "if_it_pays" first gives a region another label
            where that is cheaper than being joined.
        local_search_rounds: At most so many passes that move nodes and regions between components
            and labels while the objective falls. 0 (default): none.
        min_instance_size: Thing components with fewer nodes get component -1. Labels, cuts and
            objective keep them. 0 or 1: none is dropped.
    """

    mode: str = "revalidate"
    precision: str = "float32"
    stuff_gluing: str = "published"
    local_search_rounds: int = 0
    min_instance_size: int = 0

    def __post_init__(self) -> None:
        checks.check_choice("mode", self.mode, ("revalidate", "lpmp"))
        checks.check_choice("precision", self.precision, ("float32", "float64"))
        checks.check_choice("stuff_gluing", self.stuff_gluing, ("published", "if_it_pays"))
        checks.check_count("local_search_rounds", self.local_search_rounds)
        checks.check_count("min_instance_size", self.min_instance_size)


@dataclass(frozen=True)
class Solution:
    """Answer to one instance.

    Args:
        labels: (H, W) or (N,) int32, the label of every node.
        components: The same shape, int32: number of the connected component, from 0 in the order
            of ``roots``; -1 where the component was dropped as too small.
        roots: (M,) int32 ascending, one node of every component. In mode "lpmp" these are the
            published solver's component ids: ``roots[components]``.
        objective: Costs of labels plus costs of cut edges.
        cuts: Where asked for: uint8 arrays shaped as the edge costs (one per distance, or one),
            1 where an edge is cut; positions without an edge hold 0.
    """

    labels: NDArray[np.int32]
    components: NDArray[np.int32]
    roots: NDArray[np.int32]
    objective: float
    cuts: tuple[NDArray[np.uint8], ...]


DEFAULT_OPTIONS = SolverOptions()


def solve_grid(
    node_costs: ArrayLike,
    edge_costs: Sequence[ArrayLike],
    distances: Sequence[int],
    partitionable: ArrayLike | None,
    sampling: Sequence[int] | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
    return_cuts: bool = False,
) -> Solution:
    """Solve a multiway cut on the pixels of an image.

    Node (r, c) has number r * W + c. With distance 1, position (r, c) of an edge cost array holds
    the edge to the next row (channel 0) or the next column (channel 1); with an even distance d
    it holds the edge between d/2 rows (columns) before and d/2 after. Positions whose edge would
    leave the grid mean nothing. With a sampling interval s, position (a, b) is centre (a*s, b*s).

    Args:
        node_costs: (K, H, W) price of giving a node a label; a network's negated class logits.
        edge_costs: Per distance (2, ceil(H/s), ceil(W/s)): price of cutting an edge; negative
            where cutting pays. An array (D, 2, H, W) serves where nothing is sampled.
        distances: Edge lengths in nodes: 1 or even numbers, each once. A grid smaller than a
            distance has no edges of that length.
        partitionable: (K,) bool, True for things: labels whose nodes may form several
            components. None solves the symmetric problem: an edge is cut if its labels differ.
        sampling: Interval per distance; default 1.
        options: How to solve.
        return_cuts: Whether to return which edges are cut.

    Returns:
        Solution: Labels and components (H, W).

    Raises:
        ValueError: If shapes, distances or costs (NaN, infinity) cannot be solved.
        SolverUnavailableError: If the solver was not built.
    """
    return solve_grid_batch(
        [node_costs], [edge_costs], distances, partitionable, sampling, options, return_cuts, 1
    )[0]


def solve_grid_batch(
    node_costs: Sequence[ArrayLike],
    edge_costs: Sequence[Sequence[ArrayLike]],
    distances: Sequence[int],
    partitionable: ArrayLike | None,
    sampling: Sequence[int] | None = None,
    options: SolverOptions = DEFAULT_OPTIONS,
    return_cuts: bool = False,
    num_threads: int | None = None,
) -> list[Solution]:
    """Solve one multiway cut per image, on threads and without Python's lock.

    The images may differ in size; with ``partitionable=None`` also in the number of labels. The
    answers do not depend on the number of threads.

    Args:
        node_costs: Per image (K, H, W); an array (B, K, H, W) serves as well.
        edge_costs: Per image what :func:`solve_grid` takes. Images may share arrays.
        distances: As in :func:`solve_grid`, for all images.
        partitionable: As in :func:`solve_grid`, for all images.
        sampling: As in :func:`solve_grid`, for all images.
        options: How to solve.
        return_cuts: Whether to return which edges are cut.
        num_threads: At most so many at once; None: as many as there are usable processors.

    Returns:
        list[Solution]: One per image.

    Raises:
        ValueError: As :func:`solve_grid`; the message names the image.
        SolverUnavailableError: If the solver was not built.
    """
    lengths = checks.check_distances(distances)
    steps = checks.check_sampling(sampling, len(lengths))
    checks.check_same_length("node_costs", node_costs, "edge_costs", edge_costs)
    instances = []
    for number, (nodes, edges) in enumerate(zip(node_costs, edge_costs, strict=True)):
        with checks.naming(number, len(node_costs)):
            instance = checks.read_grid(nodes, edges, lengths, steps)
            instances.append({**instance, **_things(partitionable, instance["num_labels"])})
    return _solve(instances, options, return_cuts, num_threads)


def solve_graph(
    node_costs: ArrayLike,
    edges: ArrayLike,
    edge_costs: ArrayLike,
    partitionable: ArrayLike | None,
    options: SolverOptions = DEFAULT_OPTIONS,
    return_cuts: bool = False,
) -> Solution:
    """Solve a multiway cut on any graph.

    Args:
        node_costs: (N, K) price of giving a node a label.
        edges: (E, 2) integer node numbers, in either order. The costs of parallel edges add up.
        edge_costs: (E,) price of cutting an edge; negative where cutting pays.
        partitionable: (K,) bool, True for labels whose nodes may form several components. None
            solves the symmetric problem: an edge is cut if its labels differ.
        options: How to solve.
        return_cuts: Whether to return which edges are cut, as one (E,) array.

    Returns:
        Solution: Labels and components (N,).

    Raises:
        ValueError: If shapes, node numbers or costs (NaN, infinity) cannot be solved.
        SolverUnavailableError: If the solver was not built.
    """
    return solve_graph_batch(
        [node_costs], [edges], [edge_costs], partitionable, options, return_cuts, 1
    )[0]


def solve_graph_batch(
    node_costs: Sequence[ArrayLike],
    edges: Sequence[ArrayLike],
    edge_costs: Sequence[ArrayLike],
    partitionable: ArrayLike | None,
    options: SolverOptions = DEFAULT_OPTIONS,
    return_cuts: bool = False,
    num_threads: int | None = None,
) -> list[Solution]:
    """Solve several graphs on threads and without Python's lock.

    Args:
        node_costs: Per graph (N, K).
        edges: Per graph (E, 2).
        edge_costs: Per graph (E,).
        partitionable: As in :func:`solve_graph`, for all graphs.
        options: How to solve.
        return_cuts: Whether to return which edges are cut.
        num_threads: At most so many at once; None: as many as there are usable processors.

    Returns:
        list[Solution]: One per graph.

    Raises:
        ValueError: As :func:`solve_graph`; the message names the graph.
        SolverUnavailableError: If the solver was not built.
    """
    checks.check_same_length("node_costs", node_costs, "edges", edges)
    checks.check_same_length("node_costs", node_costs, "edge_costs", edge_costs)
    instances = []
    for number, given in enumerate(zip(node_costs, edges, edge_costs, strict=True)):
        with checks.naming(number, len(node_costs)):
            instance = checks.read_graph(*given)
            instances.append({**instance, **_things(partitionable, instance["num_labels"])})
    return _solve(instances, options, return_cuts, num_threads)


def _things(partitionable: ArrayLike | None, num_labels: int) -> dict[str, Any]:
    if partitionable is None:
        return {"symmetric": True, "partitionable": [False] * num_labels}
    return {
        "symmetric": False,
        "partitionable": checks.read_partitionable(partitionable, num_labels),
    }


def _solve(
    instances: list[dict[str, Any]],
    options: SolverOptions,
    return_cuts: bool,
    num_threads: int | None,
) -> list[Solution]:
    threads = _usable_cpus() if num_threads is None else num_threads
    checks.check_count("num_threads", threads, at_least=1)
    double = options.precision == "float64" or options.mode == "lpmp"
    given = [
        {**checks.one_type(instance, double), "return_cuts": return_cuts} for instance in instances
    ]
    settings = {
        "published": options.mode == "lpmp",
        "double_precision": double,
        "glue_if_it_pays": options.stuff_gluing == "if_it_pays",
        "local_search_rounds": options.local_search_rounds,
        "min_instance_size": options.min_instance_size,
    }
    solutions = []
    for number, answer in enumerate(load_solver().solve_batch(given, settings, threads)):
        with checks.naming(number, len(instances)):
            if isinstance(answer, str):
                raise ValueError(answer)
        labels, components, roots, objective, cuts = answer
        solutions.append(Solution(labels, components, roots, objective, tuple(cuts)))
    return solutions


def _usable_cpus() -> int:
    # Like utils.jobs.default_nproc, which may not be imported here: ops stands below utils.
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
