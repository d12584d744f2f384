"""Randomness of the data pipeline as a function of (seed, epoch, sample), and of nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class SampleIndex(int):
    """Position in a dataset that knows in which pass over the data it was drawn.

    It is an ``int`` everywhere an ``int`` is expected, and travels to worker processes. The
    arithmetic by which ``ConcatDataset`` (``-``) and ``RepeatDataset`` (``%``) find the position
    in their parts keeps the pass and the position that was drawn.

    Args:
        value (int): Position in the dataset.
        epoch (int): Number of the pass over the data, from 0. A plain ``int`` counts as pass 0.
        drawn (int | None): Position that the sampler drew, in the outermost dataset; None means
            ``value``. Together with ``epoch`` it identifies the draw.
    """

    epoch: int
    drawn: int

    def __new__(cls, value: int, epoch: int = 0, drawn: int | None = None) -> SampleIndex:  # noqa: D102
        self = super().__new__(cls, value)
        self.epoch = int(epoch)
        self.drawn = int(value if drawn is None else drawn)
        return self

    def __getnewargs__(self) -> tuple[int, int, int]:  # type: ignore[override]
        return int(self), self.epoch, self.drawn

    def __sub__(self, other: int) -> SampleIndex:
        return SampleIndex(int(self) - other, self.epoch, self.drawn)

    def __mod__(self, other: int) -> SampleIndex:
        return SampleIndex(int(self) % other, self.epoch, self.drawn)

    def __repr__(self) -> str:
        return f"SampleIndex({int(self)}, epoch={self.epoch}, drawn={self.drawn})"


def derive_seed(*numbers: int) -> int:
    """Mix numbers into one seed in ``[0, 2**63)``; unlike a sum, (0, 1) and (1, 0) differ.

    Args:
        *numbers (int): Non-negative integers, e.g. seed and epoch.
    """
    words = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


@contextmanager
def seed_sample(base_seed: int, epoch: int, index: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generator for one item, restore them afterwards.

    Inside the block every draw depends on the three numbers alone, so neither the number of
    worker processes nor a restart changes it. The generators of the surrounding program (those
    of a model with dropout in the same process, say) go on as if nothing had happened.

    Args:
        base_seed (int): Seed of the run.
        epoch (int): Number of the pass over the data.
        index (int): Position in the dataset.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence((base_seed, epoch, index)).generate_state(6, np.uint64)
    try:
        random.seed(int(words[0]))
        np.random.seed(words[1:5].view(np.uint32))
        # torch.manual_seed would also reseed the accelerators.
        torch.default_generator.manual_seed(int(words[5] >> np.uint64(1)))
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
