"""Edges of a grid as a list, and the objective by its definition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import stored_shape


def valid_positions(
    shape: tuple[int, int], distance: int, sampling: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of a cost array that stand for an edge.

    Returns:
        tuple: (rows, columns) of the row edges, then of the column edges.
    """
    _, rows, cols = stored_shape(shape, sampling)
    before, after = (0, 1) if distance == 1 else (distance // 2, distance // 2)
    first, margin = -(-before // sampling), -(-after // sampling)
    return (
        (slice(first, max(rows - margin, first)), slice(0, cols)),
        (slice(0, rows), slice(first, max(cols - margin, first))),
    )


def _pairs(shape: tuple[int, int], distance: int, sampling: int, axis: int) -> NDArray[np.int64]:
    rows, cols = valid_positions(shape, distance, sampling)[axis]
    row, col = np.mgrid[rows, cols] * sampling
    stride = shape[1] if axis == 0 else 1
    before, after = (0, 1) if distance == 1 else (distance // 2, distance // 2)
    centre = row * shape[1] + col
    return np.stack([centre - before * stride, centre + after * stride], -1).reshape(-1, 2)


def grid_edges(
    shape: tuple[int, int], distances: Sequence[int], sampling: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """List the edges of a grid in the solver's order.

    Per distance come all row edges in raster order of the stored position, then all column edges.

    Args:
        shape: (height, width) in nodes.
        distances: Edge lengths: 1 or even numbers.
        sampling: Step between stored positions per distance; default 1.

    Returns:
        NDArray[np.int64]: (E, 2) node numbers in raster order.
    """
    steps = [1] * len(distances) if sampling is None else list(sampling)
    blocks = [
        _pairs(shape, distance, step, axis)
        for distance, step in zip(distances, steps, strict=True)
        for axis in (0, 1)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), np.int64)


def flatten_edges(
    arrays: Iterable[ArrayLike],
    shape: tuple[int, int],
    distances: Sequence[int],
    sampling: Sequence[int] | None = None,
) -> NDArray:
    """Values of a grid's edges in the order of :func:`grid_edges`.

    Args:
        arrays: One (2, h, w) array per distance: costs or cuts.
        shape: (height, width) in nodes.
        distances: Edge lengths.
        sampling: Step between stored positions per distance; default 1.

    Returns:
        NDArray: (E,), of the arrays' type.
    """
    steps = [1] * len(distances) if sampling is None else list(sampling)
    values = []
    for array, distance, step in zip(arrays, distances, steps, strict=True):
        for axis, (rows, cols) in enumerate(valid_positions(shape, distance, step)):
            values.append(np.asarray(array)[axis][rows, cols].ravel())
    return np.concatenate(values) if values else np.zeros(0)


def objective(
    node_costs: ArrayLike,
    edges: ArrayLike,
    edge_costs: ArrayLike,
    labels: ArrayLike,
    components: ArrayLike,
) -> float:
    """Costs of the chosen labels plus costs of the cut edges, in double precision.

    An independent statement of the definition; the solver returns the same number.

    Args:
        node_costs: (N, K).
        edges: (E, 2) node numbers.
        edge_costs: (E,) price of cutting each edge.
        labels: (N,).
        components: (N,). An edge is cut if it joins two components.

    Returns:
        float: The objective.
    """
    label = np.asarray(labels).ravel()
    component = np.asarray(components).ravel()
    pairs = np.asarray(edges).reshape(-1, 2)
    chosen = np.asarray(node_costs, np.float64)[np.arange(label.size), label]
    cut = component[pairs[:, 0]] != component[pairs[:, 1]]
    return float(chosen.sum() + np.asarray(edge_costs, np.float64)[cut].sum())
