"""Samplers whose order is a function of (seed, pass over the data, position)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmpanoptic.registry import DATA_SAMPLERS

from .seeding import SampleIndex, derive_seed


class _SeededOrder(Sampler):
    """What both samplers share: size, process rank, seed and the order of one pass."""

    def __init__(self, dataset: Sized, shuffle: bool, seed: int | None) -> None:
        if len(dataset) == 0:
            raise ValueError(
                f"{type(dataset).__name__} has no samples to draw from; look at ann_file, the "
                "filter settings and `indices` of the dataset"
            )
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed

    def order(self, epoch: int) -> list[int]:
        """List the positions of one pass over the data; equal on all processes.

        Args:
            epoch (int): Number of the pass.
        """
        size = len(self.dataset)
        if not self.shuffle:
            return list(range(size))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        draw = getattr(self.dataset, "draw_order", None)  # of a dataset for which places matter
        if draw is not None:
            return draw(generator)
        return torch.randperm(size, generator=generator).tolist()


@DATA_SAMPLERS.register_module()
class SeededSampler(_SeededOrder):
    """Sampler of epoch-based loops; yields :class:`SampleIndex`.

    Differences from the original (``mmengine.dataset.DefaultSampler``): every index carries its
    epoch, the shuffle mixes seed and epoch instead of adding them, and :meth:`set_position`
    exists.

    Args:
        dataset (Sized): The dataset.
        shuffle (bool): Draw a new order each epoch; otherwise the dataset's order.
        seed (int | None): Seed of the shuffle; None draws one and shares it among processes.
        round_up (bool): Repeat samples so that all processes get equally many. Otherwise the
            first processes get one more.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        self.round_up = round_up
        self.epoch = 0
        self.position = 0

    def __iter__(self) -> Iterator[SampleIndex]:
        order = self.order(self.epoch)
        for step in range(self.position, len(self)):
            position = self.rank + step * self.world_size
            # Beyond the end only when rounding up.
            yield SampleIndex(order[position % len(order)], self.epoch)

    def __len__(self) -> int:
        size = len(self.dataset)
        if self.round_up:
            return math.ceil(size / self.world_size)
        return len(range(self.rank, size, self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields.

        Args:
            epoch (int): Number of the epoch, from 0.
        """
        self.epoch = epoch

    def set_position(self, num_samples: int) -> None:
        """Let the following iterations start behind samples of the epoch; 0 takes it back.

        Args:
            num_samples (int): Samples that EACH process leaves out.

        Raises:
            ValueError: If the number is negative.
        """
        self.position = _checked_position(num_samples)


@DATA_SAMPLERS.register_module()
class InfiniteSeededSampler(_SeededOrder):
    """Endless sampler of iteration-based loops; yields :class:`SampleIndex`.

    All processes walk through one endless row of passes over the data, each taking every
    ``world_size``-th entry. Any place in it can be reached directly, so a resumed run goes on at
    iteration k without reading k batches.

    Differences from the original (``mmengine.dataset.InfiniteSampler``): every index carries the
    number of its pass, each pass has an own seed, and :meth:`set_position` exists.

    Args:
        dataset (Sized): The dataset.
        shuffle (bool): Draw a new order each pass; otherwise the dataset's order.
        seed (int | None): Seed of the shuffle; None draws one and shares it among processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle, seed)
        self.position = 0

    def __iter__(self) -> Iterator[SampleIndex]:
        size = len(self.dataset)
        place = self.rank + self.position * self.world_size
        epoch, order = -1, []
        while True:
            if place // size != epoch:
                epoch = place // size
                order = self.order(epoch)
            yield SampleIndex(order[place % size], epoch)
            place += self.world_size

    def __len__(self) -> int:
        """Return the samples of one pass over the data, all processes together."""
        return len(self.dataset)

    def set_position(self, num_samples: int) -> None:
        """Let the next iteration start behind samples that were already used.

        Args:
            num_samples (int): Samples that EACH process has consumed, i.e. finished iterations
                times the batch size per process (not what workers have fetched in advance).

        Raises:
            ValueError: If the number is negative.
        """
        self.position = _checked_position(num_samples)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: passes are counted by the position; mmengine's hooks call this anyway."""


def _checked_position(num_samples: int) -> int:
    if num_samples < 0:
        raise ValueError(f"num_samples must be >= 0, got {num_samples}")
    return num_samples
