"""From evaluated architectures to the best architecture: scores of choices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .space import Architecture, SearchSpace

SCORERS = ("rank", "ridge")


def rank_scores(
    space: SearchSpace, cycles: Sequence[Sequence[tuple[Architecture, float]]]
) -> list[np.ndarray]:
    """Give every choice the points of the candidates that it is part of: path priority.

    Auto-Panoptic (arXiv:2010.16119), section 3.3: of the n candidates of a cycle the best gets
    n - 1 points, the worst 0; among equal fitnesses the earlier candidate is better.

    Args:
        space (SearchSpace): The space.
        cycles (Sequence): For each cycle its candidates ``(architecture, fitness)`` in their
            order.

    Returns:
        list[np.ndarray]: For each decision the int64 points of its choices.
    """
    board = [np.zeros(count, np.int64) for count in space.num_choices]
    for cycle in cycles:
        ranked = sorted(cycle, key=lambda candidate: -candidate[1])
        for points, (arch, _) in zip(range(len(ranked) - 1, -1, -1), ranked, strict=True):
            for decision, choice in enumerate(arch):
                board[decision][choice] += points
    return board


def ridge_scores(
    space: SearchSpace,
    candidates: Sequence[tuple[Architecture, float]],
    penalty: float = 1.0,
) -> list[np.ndarray]:
    """Fit an additive model of the fitness: a mean plus one effect per choice.

    Args:
        space (SearchSpace): The space.
        candidates (Sequence): ``(architecture, fitness)``; at least one.
        penalty (float): Weight of the squared effects in the least-squares sum; it decides what
            is left undetermined by few candidates.

    Returns:
        list[np.ndarray]: For each decision the float64 effects of its choices, in units of the
        fitness; their sum plus the mean predicts an architecture's fitness.

    Raises:
        ValueError: If there is no candidate, or the penalty is not positive.
    """
    if not candidates or penalty <= 0:
        raise ValueError(
            f"ridge needs candidates and penalty > 0, got {len(candidates)}, {penalty}"
        )
    offsets = np.cumsum([0, *space.num_choices])
    design = np.zeros((len(candidates), offsets[-1]))
    for row, (arch, _) in enumerate(candidates):
        design[row, offsets[:-1] + np.array(arch)] = 1
    fitness = np.array([value for _, value in candidates], np.float64)
    gram = design @ design.T + penalty * np.eye(len(candidates))
    effects = design.T @ np.linalg.solve(gram, fitness - fitness.mean())
    return [effects[a:b] for a, b in itertools.pairwise(offsets)]


def rank_choices(
    scores: Sequence[np.ndarray], strict_legacy_ties: bool = False
) -> list[np.ndarray]:
    """Order the choices of every decision, best first.

    Args:
        scores (Sequence[np.ndarray]): Score of every choice of every decision.
        strict_legacy_ties (bool): Of equal scores the larger number comes first. The original
            left that to NumPy's default sort, which agrees for the first places but depends on
            the processor for later ones; True does the same.

    Returns:
        list[np.ndarray]: For each decision the numbers of its choices.
    """
    if strict_legacy_ties:
        return [np.argsort(values)[::-1] for values in scores]
    return [np.argsort(values, kind="stable")[::-1] for values in scores]


def best_architectures(
    space: SearchSpace, scores: Sequence[np.ndarray], strict_legacy_ties: bool = False
) -> list[Architecture]:
    """Build the architectures of best, second best, ... choices.

    Args:
        space (SearchSpace): The space.
        scores (Sequence[np.ndarray]): Score of every choice of every decision.
        strict_legacy_ties (bool): See :func:`rank_choices`.

    Returns:
        list[Architecture]: As many as the decision with the fewest choices allows; the k-th takes
        the k-th best choice everywhere.
    """
    order = rank_choices(scores, strict_legacy_ties)
    return [tuple(int(ranked[k]) for ranked in order) for k in range(min(space.num_choices))]
