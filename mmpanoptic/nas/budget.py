"""The best architecture within limits: additive scores and costs as an integer program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cost import CostTable, Ranges, within
from .space import Architecture


def best_in_ranges(table: CostTable, scores: Sequence[np.ndarray], ranges: Ranges) -> Architecture:
    """Find the architecture with the greatest sum of scores whose costs keep all ranges.

    Args:
        table (CostTable): Costs of the choices.
        scores (Sequence[np.ndarray]): Score of every choice of every decision.
        ranges (Ranges): Limits of any quantities.

    Returns:
        Architecture: The best one, exactly.

    Raises:
        ValueError: If no architecture is in range.
    """
    from scipy.optimize import LinearConstraint, milp

    counts = [len(score) for score in scores]
    starts = np.cumsum([0, *counts[:-1]])
    one_each = np.repeat(np.eye(len(counts)), counts, axis=1)
    constraints = [LinearConstraint(one_each, 1, 1)]
    spans = []
    for name, (low, high) in ranges.items():
        fixed, shares = table.split(name)
        least, greatest = (fixed + sum(f(s) for s in shares) for f in (np.min, np.max))
        spans.append(f"{name}: {least:g} to {greatest:g}")
        scale = greatest - least or 1.0
        ends = [e if end is None else end - fixed for e, end in ((-np.inf, low), (np.inf, high))]
        row = np.concatenate(shares)[None] / scale
        constraints.append(LinearConstraint(row, *(end / scale for end in ends)))
    while True:
        found = milp(
            -np.concatenate(scores).astype(float),
            integrality=1,
            bounds=(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0},
        )
        if found.x is None:
            limits = ", ".join(f"{name} in {ends}" for name, ends in ranges.items())
            raise ValueError(
                f"found no architecture with {limits}; the space has {', '.join(spans)}"
            )
        parts = np.split(found.x, starts[1:])
        arch = tuple(int(part.argmax()) for part in parts)
        if within(table.cost(arch), ranges):
            return arch
        # Past a limit by the solver's tolerance: any but this one.
        taken = np.zeros((1, len(found.x)))
        taken[0, starts + np.array(arch)] = 1
        constraints.append(LinearConstraint(taken, -np.inf, len(arch) - 1))
