"""Batches from a given place of the data on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, TypedDict

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch.utils.data import BatchSampler, DataLoader

from mmpanoptic.registry import ConfigError

from ..datasets.batch_samplers import AspectRatioBatchSampler
from ..datasets.samplers import InfiniteSeededSampler, SeededSampler
from ..datasets.seeding import derive_seed
from .random_state import isolated_random_state

_ENDLESS = (InfiniteSeededSampler, InfiniteSampler)


class DataPosition(TypedDict):
    """How far a run has come in its data.

    Attributes:
        samples (int): Samples that each process has consumed: of the current epoch in epoch
            loops, of the whole run in iteration loops.
        world_size (int): Number of processes.
    """

    samples: int
    world_size: int


def samples_per_process(position: DataPosition) -> int:
    """Convert a stored position to the present number of processes.

    Args:
        position (DataPosition): From a checkpoint.

    Returns:
        int: Samples that each process leaves out; all together as many as before, rounded down.
    """
    return position["samples"] * position["world_size"] // get_world_size()


def batch_size_of(loader: DataLoader) -> int:
    """Return the number of samples per batch and process."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1


def endless_batches(loader: DataLoader, samples: int) -> tuple[Iterator[Any], int]:
    """Iterate over a data loader without end, starting behind samples already used.

    Args:
        loader (DataLoader): The loader.
        samples (int): Samples that each process has used.

    Returns:
        tuple[Iterator, int]: Batches, and how many of them the caller has to throw away: 0 with
        the samplers of this package, all used ones with samplers that cannot be positioned.
    """
    sampler, done = _sampler_of(loader), samples // batch_size_of(loader)
    first = 0
    grouping = loader.batch_sampler
    if isinstance(grouping, AspectRatioBatchSampler) and _is_endless(grouping.sampler):
        grouping.set_position(samples)
        done = 0
    elif _is_endless(sampler):
        sampler.set_position(samples)
        done = 0
    elif isinstance(sampler, SeededSampler) and len(loader):
        first, remainder = divmod(done, len(loader))
        sampler.set_position(remainder * batch_size_of(loader))
        done = 0
    return _passes(loader, sampler, first), done


def refuse_endless(loader: DataLoader) -> None:
    """Refuse data without an end, which an epoch would wait for.

    Args:
        loader (DataLoader): Of a loop over epochs.

    Raises:
        ConfigError: If the sampler, or that of the batch sampler, is an endless one.
    """
    grouping = loader.batch_sampler
    for sampler in (loader.sampler, grouping, getattr(grouping, "sampler", None)):
        if isinstance(sampler, _ENDLESS):
            raise endless_error(sampler)


def endless_error(sampler: Any) -> ConfigError:
    """Make the error of a sampler whose epoch does not end."""
    return ConfigError(
        f"{type(sampler).__name__} never ends, and neither would an epoch of training, validation "
        "or testing: write sampler=dict(type='SeededSampler') in the dataloader, or train with "
        "train_cfg=dict(type='IterTrainLoop', max_iters=N)"
    )


def epoch_batches(loader: DataLoader, epoch: int, samples: int) -> tuple[Iterator[Any], int]:
    """Iterate over one epoch of a data loader, starting behind samples already used.

    Args:
        loader (DataLoader): The loader; its sampler knows the epoch already.
        epoch (int): Number of the epoch.
        samples (int): Samples of this epoch that each process has used.

    Returns:
        tuple[Iterator, int]: As :func:`endless_batches`.
    """
    sampler, done = _sampler_of(loader), samples // batch_size_of(loader)
    if isinstance(sampler, SeededSampler):
        sampler.set_position(samples)
        done = 0
    return _one_pass(loader, sampler, epoch), done


def _is_endless(sampler: Any) -> bool:
    return isinstance(sampler, InfiniteSeededSampler)


def _sampler_of(loader: DataLoader) -> Any:
    """Return the sampler; None if batches are grouped in a way that a position cannot describe."""
    if type(loader.batch_sampler) is not BatchSampler:
        return None
    return loader.batch_sampler.sampler


def _one_pass(loader: DataLoader, sampler: Any, epoch: int) -> Iterator[Any]:
    # A loader draws the seed of its workers, and torch's RandomSampler its order, from the
    # global generator. Here both follow from seed and epoch, and training's numbers go on as if
    # nothing had been drawn: a resumed run creates one more iterator than an undisturbed one.
    with isolated_random_state():
        torch.default_generator.manual_seed(derive_seed(torch.initial_seed(), epoch))
        iterator = iter(loader)
    yield from iterator
    if isinstance(sampler, SeededSampler):
        sampler.set_position(0)


def _passes(loader: DataLoader, sampler: Any, first: int) -> Iterator[Any]:
    source = sampler or getattr(loader.batch_sampler, "sampler", loader.sampler)
    for epoch in count(first):
        if hasattr(source, "set_epoch"):
            source.set_epoch(epoch)
        yield from _one_pass(loader, sampler, epoch)
