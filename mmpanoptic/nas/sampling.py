"""Which path of a supernet every training iteration takes."""

from __future__ import annotations

import numpy as np

from .space import Architecture, SearchSpace


def fair_table(space: SearchSpace, rng: np.random.RandomState) -> np.ndarray:
    """Draw as many paths as one window has, which together use every choice equally often.

    Args:
        space (SearchSpace): The space.
        rng (RandomState): Advanced by one permutation per choice that is dealt out.

    Returns:
        np.ndarray: (window, decisions) int64, one path per row; ``window`` is the least common
        multiple of the numbers of choices. Column after column is drawn, in the space's order.
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
        self.space = space
        self.seed = seed
        self.delay = int(strict_legacy_windows)
        self._table: tuple[int, np.ndarray] | None = None

    def locate(self, iteration: int) -> tuple[int, int]:
        """Tell the table and the row of an iteration.

        Args:
            iteration (int): Number of the iteration, from 0.

        Returns:
            tuple[int, int]: Number of the table and row in it.
        """
        return divmod(iteration + self.delay, self.space.window)

    def __call__(self, iteration: int) -> Architecture:
        """Return the path of an iteration, counted from 0."""
        window, row = self.locate(iteration)
        if self._table is None or self._table[0] != window:
            rng = np.random.RandomState([self.seed % 2**32, window])
            self._table = (window, fair_table(self.space, rng))
        return tuple(int(choice) for choice in self._table[1][row])


class UniformPaths:
    """Paths of which every one has the same probability, independent of each other.

    Args:
        space (SearchSpace): The space.
        seed (int): Seed; the path of an iteration follows from it and the iteration's number.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed

    def __call__(self, iteration: int) -> Architecture:
        """Return the path of an iteration, counted from 0."""
        return self.space.sample(np.random.RandomState([self.seed % 2**32, iteration]))


SAMPLERS = {"fair": FairPaths, "uniform": UniformPaths}
