"""Edges between the cells of a grid at several distances, stored as arrays of the grid's size.

COPS (arXiv:2106.03188), section 4. Of each distance d there is one array ``(..., 2, h, w)``:
channel 0 holds "row" edges, whose ends lie in one column, channel 1 "column" edges, whose ends lie
in one row. Distance 1 stores the edge (r, r + 1) at r, an even distance the edge (r - d / 2,
r + d / 2) at r. Positions whose edge would leave the grid are invalid and hold 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

ROW_EDGES, COLUMN_EDGES = -2, -1
"""Dimension along which the ends of an edge of channel 0 and of channel 1 differ."""


def check_distances(name: str, distances: Sequence[int], intervals: Sequence[int]) -> None:
    """Refuse distances and sampling intervals that have no layout.

    Args:
        name (str): The part that was given them, for the message.
        distances (Sequence[int]): Distances in cells.
        intervals (Sequence[int]): Every how many rows and columns edges are kept.

    Raises:
        ValueError: If there is no distance, one is odd and not 1 or occurs twice, or there is not
            one interval from 1 for each.
    """
    wrong = [d for d in distances if d != 1 and (d < 1 or d % 2)]
    if wrong or not distances or len(set(distances)) != len(distances):
        raise ValueError(
            f"{name}: distances must be 1 or even, each once, got {list(distances)}; an edge of an "
            "even distance is stored in its middle"
        )
    if len(intervals) != len(distances) or min(intervals) < 1:
        raise ValueError(
            f"{name}: {len(distances)} distances need as many sampling intervals from 1, got "
            f"{list(intervals)}"
        )


def edge_ends(x: Tensor, distance: int, dim: int) -> tuple[Tensor, Tensor]:
    """Look at the values at both ends of all edges of one direction.

    Args:
        x (Tensor): ``(..., h, w)``.
        distance (int): Distance in cells.
        dim (int): ``ROW_EDGES`` or ``COLUMN_EDGES``.

    Returns:
        tuple[Tensor, Tensor]: Views of the upper (left) and lower (right) ends, shorter by
        ``distance`` along ``dim``; empty if the grid is too small.
    """
    length = x.shape[dim]
    number = max(length - distance, 0)
    return x.narrow(dim, 0, number), x.narrow(dim, length - number, number)


def place_edges(values: Tensor, distance: int, dim: int, length: int) -> Tensor:
    """Put the values of all edges of one direction to their positions; 0 elsewhere.

    Args:
        values (Tensor): As many along ``dim`` as :func:`edge_ends` returns.
        distance (int): Distance in cells.
        dim (int): ``ROW_EDGES`` or ``COLUMN_EDGES``.
        length (int): Cells of the grid along ``dim``.

    Returns:
        Tensor: ``(..., h, w)``.
    """
    if not values.shape[dim]:
        shape = list(values.shape)
        shape[dim] = length
        return values.new_zeros(shape)
    before = 0 if distance == 1 else distance // 2
    pad = (before, distance - before)
    return functional.pad(values, pad if dim == COLUMN_EDGES else (0, 0, *pad))


def map_edges(
    x: Tensor, distance: int, compute: Callable[[Tensor, Tensor], Tensor], interval: int = 1
) -> Tensor:
    """Compute a value of every edge from the values at its ends.

    Args:
        x (Tensor): ``(..., h, w)``.
        distance (int): Distance in cells.
        compute (Callable): Maps the values at the upper (left) and the lower (right) ends.
        interval (int): Every how many rows and columns edges are kept.

    Returns:
        Tensor: ``(..., 2, ceil(h / interval), ceil(w / interval))``, 0 at invalid positions.
    """
    edges = torch.stack(
        [
            place_edges(compute(*edge_ends(x, distance, dim)), distance, dim, x.shape[dim])
            for dim in (ROW_EDGES, COLUMN_EDGES)
        ],
        dim=-3,
    )
    if interval == 1:
        return edges
    valid = valid_edges((x.shape[-2], x.shape[-1]), distance, interval, x.device)
    return edges[..., ::interval, ::interval] * valid


def valid_edges(
    size: tuple[int, int],
    distance: int,
    interval: int = 1,
    device: torch.device | str | None = None,
) -> Tensor:
    """Tell which positions hold an edge.

    Args:
        size (tuple[int, int]): Height and width of the grid.
        distance (int): Distance in cells.
        interval (int): Every how many rows and columns edges are kept.
        device (torch.device | str | None): Of the result.

    Returns:
        Tensor: bool ``(2, ceil(h / interval), ceil(w / interval))``.
    """
    before = 0 if distance == 1 else distance // 2
    first, last = -(-before // interval), -(-(distance - before) // interval)
    height, width = (-(-length // interval) for length in size)
    valid = torch.zeros(2, height, width, dtype=torch.bool, device=device)
    valid[0, first : max(height - last, 0)] = True
    valid[1, :, first : max(width - last, 0)] = True
    return valid
