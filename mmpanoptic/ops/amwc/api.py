"""Reads what callers hand to the solver, and says what is wrong with it."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpanoptic.utils.jobs import usable_cpus

from .compiled import load_solver

MAX_NODES = 2**31 - 1  # components are int32


def stored_shape(shape: tuple[int, int], sampling: int) -> tuple[int, int, int]:
    """Shape of the cost array of one distance."""
    height, width = shape
    return 2, -(-height // sampling), -(-width // sampling)


@contextlib.contextmanager
def naming(number: int, total: int) -> Iterator[None]:
    """Put the number of the instance before an error's text, where there are several."""
    try:
        yield
    except ValueError as error:
        raise (ValueError(f"instance {number}: {error}") if total > 1 else error) from None


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_count(name: str, value: int, at_least: int = 0) -> None:
    """Refuse what is no whole number from ``at_least`` on."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} must be a whole number >= {at_least}, got {value!r}")


def check_same_length(name: str, one: Sized, other_name: str, other: Sized) -> None:
    """Refuse batches of different length."""
    if len(one) != len(other):
        raise ValueError(
            f"{name} has {len(one)} instances, {other_name} has {len(other)}; give one per instance"
        )


def check_distances(distances: Sequence[int]) -> list[int]:
    """Read edge lengths: 1 or even, each once."""
    lengths = [operator.index(distance) for distance in distances]
    for length in lengths:
        if length != 1 and (length < 1 or length % 2):
            raise ValueError(
                f"distances must be 1 or even, got {length}: an edge longer than 1 is stored at "
                "its centre"
            )
    if len(set(lengths)) != len(lengths):
        raise ValueError(f"distances must differ, got {lengths}")
    return lengths


def check_sampling(sampling: Sequence[int] | None, count: int) -> list[int]:
    """Read sampling intervals, one per distance."""
    steps = [1] * count if sampling is None else [operator.index(step) for step in sampling]
    if len(steps) != count or any(step < 1 for step in steps):
        raise ValueError(f"sampling must hold {count} intervals >= 1, got {steps}")
    return steps


def read_partitionable(given: ArrayLike, num_labels: int) -> list[bool]:
    """Read the mask of things."""
    mask = np.asarray(given)
    if mask.dtype != np.bool_ or mask.shape != (num_labels,):
        raise ValueError(
            f"partitionable must be a bool mask of shape ({num_labels},), one per label, "
            f"got {mask.dtype} {mask.shape}"
        )
    return [bool(flag) for flag in mask]


def _floats(name: str, given: ArrayLike) -> NDArray:
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    wide = array.dtype == np.float64 or array.dtype.kind in "iu"
    return np.ascontiguousarray(array, np.float64 if wide else np.float32)


def read_grid(
    node_costs: ArrayLike, edge_costs: Sequence[ArrayLike], distances: list[int], steps: list[int]
) -> dict[str, Any]:
    """Read one image.

    Returns:
        dict: The instance as the compiled solver takes it, and ``num_labels``.
    """
    nodes = _floats("node_costs", node_costs)
    if nodes.ndim != 3 or 0 in nodes.shape:
        raise ValueError(
            f"node_costs must be (labels, height, width), none of them 0, got {nodes.shape}"
        )
    num_labels, height, width = nodes.shape
    if height * width > MAX_NODES:
        raise ValueError(f"node_costs has {height} x {width} nodes, more than {MAX_NODES}")
    if len(edge_costs) != len(distances):
        raise ValueError(
            f"edge_costs has {len(edge_costs)} arrays for {len(distances)} distances; "
            "give one per distance"
        )
    arrays = []
    for given, distance, step in zip(edge_costs, distances, steps, strict=True):
        array = _floats("edge_costs", given)
        expected = stored_shape((height, width), step)
        if array.shape != expected:
            raise ValueError(
                f"edge_costs of distance {distance} must be {expected} (row edges, column edges), "
                f"got {array.shape}"
            )
        arrays.append(array)
    return {
        "shape": [height, width],
        "num_labels": num_labels,
        "distances": distances,
        "sampling": steps,
        "node_costs": nodes,
        "edge_costs": arrays,
    }


def read_graph(node_costs: ArrayLike, edges: ArrayLike, edge_costs: ArrayLike) -> dict[str, Any]:
    """Read one graph.

    Returns:
        dict: The instance as the compiled solver takes it, and ``num_labels``.
    """
    nodes = _floats("node_costs", node_costs)
    if nodes.ndim != 2 or 0 in nodes.shape:
        raise ValueError(
            f"node_costs must be (nodes, labels), none of them 0, got {nodes.shape}; "
            "an empty graph has no solution"
        )
    if len(nodes) > MAX_NODES:
        raise ValueError(f"node_costs has {len(nodes)} nodes, more than {MAX_NODES}")
    costs = _floats("edge_costs", edge_costs)
    if costs.ndim != 1:
        raise ValueError(f"edge_costs must be (edges,), got {costs.shape}")
    return {
        "shape": [len(nodes)],
        "num_labels": nodes.shape[1],
        "edges": _read_edges(edges, len(nodes), len(costs)),
        "node_costs": nodes,
        "edge_costs": [costs],
    }


def _read_edges(given: ArrayLike, num_nodes: int, count: int) -> NDArray[np.uint32]:
    pairs = np.asarray(given)
    if count == 0 and pairs.size == 0:
        return np.zeros((0, 2), np.uint32)
    if pairs.shape != (count, 2) or pairs.dtype.kind not in "iu":
        raise ValueError(
            f"edges must be integers of shape ({count}, 2), as many as edge_costs, "
            f"got {pairs.dtype} {pairs.shape}"
        )
    outside = np.flatnonzero(((pairs < 0) | (pairs >= num_nodes)).any(1))
    if outside.size:
        raise ValueError(
            f"edge {outside[0]} joins nodes {pairs[outside[0]].tolist()}; node numbers must lie "
            f"in 0..{num_nodes - 1}"
        )
    loops = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
    if loops.size:
        raise ValueError(
            f"edge {loops[0]} joins node {pairs[loops[0], 0]} to itself; remove such edges"
        )
    return np.ascontiguousarray(pairs, np.uint32)


def one_type(instance: dict[str, Any], double: bool) -> dict[str, Any]:
    """Bring all costs of an instance to one type, float64 only where that keeps precision."""
    arrays = [instance["node_costs"], *instance["edge_costs"]]
    wide = double and any(array.dtype == np.float64 for array in arrays)
    dtype = np.float64 if wide else np.float32
    return {
        **instance,
        "node_costs": np.ascontiguousarray(instance["node_costs"], dtype),
        "edge_costs": [np.ascontiguousarray(array, dtype) for array in instance["edge_costs"]],
    }


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
        check_choice("mode", self.mode, ("revalidate", "lpmp"))
        check_choice("precision", self.precision, ("float32", "float64"))
        check_choice("stuff_gluing", self.stuff_gluing, ("published", "if_it_pays"))
        check_count("local_search_rounds", self.local_search_rounds)
        check_count("min_instance_size", self.min_instance_size)


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
    lengths = check_distances(distances)
    steps = check_sampling(sampling, len(lengths))
    check_same_length("node_costs", node_costs, "edge_costs", edge_costs)
    instances = []
    for number, (nodes, edges) in enumerate(zip(node_costs, edge_costs, strict=True)):
        with naming(number, len(node_costs)):
            instance = read_grid(nodes, edges, lengths, steps)
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
    check_same_length("node_costs", node_costs, "edges", edges)
    check_same_length("node_costs", node_costs, "edge_costs", edge_costs)
    instances = []
    for number, given in enumerate(zip(node_costs, edges, edge_costs, strict=True)):
        with naming(number, len(node_costs)):
            instance = read_graph(*given)
            instances.append({**instance, **_things(partitionable, instance["num_labels"])})
    return _solve(instances, options, return_cuts, num_threads)


def _things(partitionable: ArrayLike | None, num_labels: int) -> dict[str, Any]:
    if partitionable is None:
        return {"symmetric": True, "partitionable": [False] * num_labels}
    return {
        "symmetric": False,
        "partitionable": read_partitionable(partitionable, num_labels),
    }


def _solve(
    instances: list[dict[str, Any]],
    options: SolverOptions,
    return_cuts: bool,
    num_threads: int | None,
) -> list[Solution]:
    threads = usable_cpus() if num_threads is None else num_threads
    check_count("num_threads", threads, at_least=1)
    double = options.precision == "float64" or options.mode == "lpmp"
    given = [{**one_type(instance, double), "return_cuts": return_cuts} for instance in instances]
    settings = {
        "published": options.mode == "lpmp",
        "double_precision": double,
        "glue_if_it_pays": options.stuff_gluing == "if_it_pays",
        "local_search_rounds": options.local_search_rounds,
        "min_instance_size": options.min_instance_size,
    }
    solutions = []
    for number, answer in enumerate(load_solver().solve_batch(given, settings, threads)):
        with naming(number, len(instances)):
            if isinstance(answer, str):
                raise ValueError(answer)
        labels, components, roots, objective, cuts = answer
        solutions.append(Solution(labels, components, roots, objective, tuple(cuts)))
    return solutions
