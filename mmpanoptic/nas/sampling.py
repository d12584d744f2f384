"""Which path of a supernet every training iteration takes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .space import Architecture, SearchSpace


def fair_table(space: SearchSpace, rng: np.random.RandomState) -> np.ndarray:
    """Draw as many paths as one window has, which together use every choice equally often.

    Returns:
        np.ndarray: (window, decisions) int64, one path per row. Column after column is drawn, in
        the space's order, a permutation for each time that its choices are dealt out.
    """
    columns = [
        np.concatenate([rng.permutation(count) for _ in range(space.window // count)])
        for count in space.num_choices
    ]
    return np.stack(columns, axis=1)


class FairPaths:
    """Paths that use every choice equally often within each optimizer step.

    The table of a window follows from seed and number of the window alone, so that a resumed run
    and all processes agree without exchanging anything.

    Differences from the original: its windows were one iteration late, so that a step summed up
    rows of two tables, and after a resume started anywhere; ``strict_legacy_windows`` gives the
    rows of such a run that was never interrupted.

    Args:
        space (SearchSpace): The space.
        seed (int): Seed of the tables.
        strict_legacy_windows (bool): One iteration late, as the original.
    """

    def __init__(self, space: SearchSpace, seed: int, strict_legacy_windows: bool = False) -> None:
        self.space, self.delay = space, int(strict_legacy_windows)
        self._table = lru_cache(1)(
            lambda window: fair_table(space, np.random.RandomState([seed % 2**32, window]))
        )

    def locate(self, iteration: int) -> tuple[int, int]:
        """Tell the table of an iteration, counted from 0, and the row in it."""
        return divmod(iteration + self.delay, self.space.window)

    def __call__(self, iteration: int) -> Architecture:
        """Return the path of an iteration, counted from 0."""
        window, row = self.locate(iteration)
        return self.space.validate(self._table(window)[row].tolist())


class UniformPaths:
    """Paths of which every one has the same probability, each from seed and iteration alone."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed

    def __call__(self, iteration: int) -> Architecture:
        """Return the path of an iteration, counted from 0."""
        return self.space.sample(np.random.RandomState([self.seed % 2**32, iteration]))
