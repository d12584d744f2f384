"""The best architecture within limits: exact search over additive scores and costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cost import CostTable, Ranges, within
from .space import Architecture

GRID_CELLS = 250_000
"""Cells of the grid of costs: 250000 steps for one limit, 500 for each of two, 63 of three."""


def best_in_ranges(table: CostTable, scores: Sequence[np.ndarray], ranges: Ranges) -> Architecture:
    """Find the architecture with the greatest sum of scores whose costs keep all ranges.

    Dynamic programming over the decisions. For every cell of a grid of (rounded) costs the best
    sum of scores is known; the cells are tried from the best on until an architecture keeps the
    ranges by its exact costs. So the result is always allowed; only architectures within a few
    steps of a limit can be missed.

    Args:
        table (CostTable): Costs of the choices.
        scores (Sequence[np.ndarray]): Score of every choice of every decision.
        ranges (Ranges): Limits of one to three quantities.

    Returns:
        Architecture: The best one. Of equally good choices the larger number is taken.

    Raises:
        ValueError: If no architecture in range is found, or there are more than three limits.
    """
    if not 1 <= len(ranges) <= 3:
        raise ValueError(
            f"ranges of one to three quantities can be kept at once, got {len(ranges)}"
        )
    grids = [_Grid(*table.split(name), ends, len(ranges)) for name, ends in ranges.items()]
    shape = tuple(grid.size for grid in grids)
    weights = [np.stack(group) for group in zip(*(grid.steps for grid in grids), strict=True)]
    value, taken = _fill(scores, weights, shape)
    for cell in np.argsort(-value, axis=None, kind="stable"):
        place = np.unravel_index(cell, shape)
        if np.isneginf(value[place]):
            break
        if not all(grid.may_hold(int(i)) for grid, i in zip(grids, place, strict=True)):
            continue
        arch = _walk_back(taken, weights, place)
        if within(table.cost(arch), ranges):
            return arch
    limits = ", ".join(f"{name} in {ends}" for name, ends in ranges.items())
    spans = ", ".join(
        f"{n}: {g.lowest:g} to {g.highest:g}" for n, g in zip(ranges, grids, strict=True)
    )
    raise ValueError(f"found no architecture with {limits}; the space has {spans}")


class _Grid:
    """Costs of one quantity, counted in steps above the cheapest architecture."""

    def __init__(
        self,
        fixed: float,
        costs: list[np.ndarray],
        ends: tuple[float | None, float | None],
        dimensions: int,
    ) -> None:
        lows = [float(cost.min()) for cost in costs]
        self.lowest = fixed + sum(lows)
        self.highest = fixed + sum(float(cost.max()) for cost in costs)
        resolution = round(GRID_CELLS ** (1 / dimensions))
        self.step = (self.highest - self.lowest) / resolution or 1.0
        # Every decision rounds by half a step at most.
        self.slack = 0.5 * len(costs)
        self.low, self.high = (
            None if end is None else (end - self.lowest) / self.step for end in ends
        )
        top = resolution if self.high is None else min(resolution, self.high)
        self.size = max(1, int(np.ceil(top + self.slack)) + 1)
        self.steps = [
            np.rint((cost - low) / self.step).astype(np.int64)
            for cost, low in zip(costs, lows, strict=True)
        ]

    def may_hold(self, cell: int) -> bool:
        """Tell whether an architecture of this cell can be in range."""
        above = self.low is None or cell >= self.low - self.slack
        return above and (self.high is None or cell <= self.high + self.slack)


def _fill(
    scores: Sequence[np.ndarray], weights: list[np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Compute the best sum of scores per cell, and the choice of each decision that gave it."""
    value = np.full(shape, -np.inf)
    value[(0,) * len(shape)] = 0
    taken = []
    for score, weight in zip(scores, weights, strict=True):
        best, choice_of = np.full(shape, -np.inf), np.zeros(shape, np.int8)
        for choice in range(len(score)):
            shift = weight[:, choice]
            if any(s >= size for s, size in zip(shift, shape, strict=True)):
                continue
            to = tuple(slice(int(s), None) for s in shift)
            source = tuple(slice(0, size - int(s)) for s, size in zip(shift, shape, strict=True))
            candidate = value[source] + score[choice]
            better = candidate >= best[to]
            best[to] = np.where(better, candidate, best[to])
            choice_of[to] = np.where(better, choice, choice_of[to])
        value = best
        taken.append(choice_of)
    return value, taken


def _walk_back(
    taken: list[np.ndarray], weights: list[np.ndarray], place: Sequence[np.intp]
) -> Architecture:
    at = np.array(place, np.int64)
    arch = []
    for choice_of, weight in zip(taken[::-1], weights[::-1], strict=True):
        choice = int(choice_of[tuple(at)])
        arch.append(choice)
        at -= weight[:, choice]
    return tuple(arch[::-1])
