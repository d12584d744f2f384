"""From evaluated architectures to the best architecture: scores of choices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .cost import CostTable, Ranges, within
from .space import Architecture, SearchSpace


def rank_scores(
    space: SearchSpace, cycles: Sequence[Sequence[tuple[Architecture, float]]]
) -> list[np.ndarray]:
    """Give every choice the points of the candidates that it is part of: path priority.

    Auto-Panoptic (arXiv:2010.16119), section 3.3: of the n candidates of a cycle the best gets
    n - 1 points, the worst 0; among equal fitnesses the earlier candidate is better.

    Args:
        space (SearchSpace): The space.
        cycles (Sequence): For each cycle its candidates ``(architecture, fitness)`` in order.

    Returns:
        list[np.ndarray]: For each decision the int64 points of its choices.
    """
    board = [np.zeros(count, np.int64) for count in space.num_choices]
    for cycle in cycles:
        ranked = sorted(cycle, key=lambda candidate: -candidate[1])
        for place, (arch, _) in enumerate(ranked, 1):
            for points, choice in zip(board, arch, strict=True):
                points[choice] += len(ranked) - place
    return board


def ridge_scores(
    space: SearchSpace, candidates: Sequence[tuple[Architecture, float]], penalty: float = 1.0
) -> list[np.ndarray]:
    """Fit an additive model of the fitness: a mean plus one effect per choice.

    Args:
        space (SearchSpace): The space.
        candidates (Sequence): ``(architecture, fitness)`` of at least one.
        penalty (float): Weight of the squared effects in the least-squares sum; it decides what
            is left undetermined by few candidates.

    Returns:
        list[np.ndarray]: For each decision the float64 effects of its choices, in units of the
        fitness; their sum plus the mean predicts an architecture's fitness.

    Raises:
        ValueError: If there is no candidate, or the penalty is not positive.
    """
    if not candidates or penalty <= 0:
        raise ValueError(f"ridge needs candidates, penalty > 0; got {len(candidates)}, {penalty}")
    offsets = np.cumsum([0, *space.num_choices])
    design = np.zeros((len(candidates), offsets[-1]))
    for row, (arch, _) in enumerate(candidates):
        design[row, offsets[:-1] + np.array(arch)] = 1
    fitness = np.array([value for _, value in candidates], np.float64)
    gram = design @ design.T + penalty * np.eye(len(candidates))
    effects = design.T @ np.linalg.solve(gram, fitness - fitness.mean())
    return [effects[a:b] for a, b in itertools.pairwise(offsets)]


def best_architectures(
    space: SearchSpace, scores: Sequence[np.ndarray], strict_legacy_ties: bool = False
) -> list[Architecture]:
    """Build the architectures of best, second best, ... choices.

    Args:
        space (SearchSpace): The space.
        scores (Sequence[np.ndarray]): Score of every choice of every decision.
        strict_legacy_ties (bool): Of equal scores the larger number comes first. The original
            left that to NumPy's default sort, which agrees for the first places but depends on
            the processor for later ones; True does the same.

    Returns:
        list[Architecture]: As many as the decision with the fewest choices allows; the k-th takes
        the k-th best choice everywhere.
    """
    order = [np.argsort(v, kind=None if strict_legacy_ties else "stable")[::-1] for v in scores]
    return [tuple(int(ranked[k]) for ranked in order) for k in range(min(space.num_choices))]


def best_in_ranges(table: CostTable, scores: Sequence[np.ndarray], ranges: Ranges) -> Architecture:
    """Find the architecture with the greatest sum of scores (of each choice of each decision).

    Returns:
        Architecture: The best one whose costs keep all ranges, exactly.

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
