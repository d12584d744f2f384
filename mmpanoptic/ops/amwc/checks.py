"""Reads what callers hand to the solver, and says what is wrong with it."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .grid import stored_shape

MAX_NODES = 2**31 - 1  # components are int32


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
