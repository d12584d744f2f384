from __future__ import annotations

from itertools import islice

import pytest

from mmpanoptic.datasets import samplers
from mmpanoptic.datasets.samplers import InfiniteSeededSampler, SeededSampler
from mmpanoptic.registry import DATA_SAMPLERS


@pytest.fixture
def as_rank(monkeypatch):
    def set_rank(rank: int, world_size: int) -> None:
        monkeypatch.setattr(samplers, "get_dist_info", lambda: (rank, world_size))

    return set_rank


def drawn(sampler, count: int | None = None) -> list[tuple[int, int]]:
    return [(int(index), index.epoch) for index in islice(iter(sampler), count)]


def test_each_epoch_visits_every_sample_once_in_another_order():
    sampler = SeededSampler(range(20), seed=5)
    first = drawn(sampler)
    assert drawn(sampler) == first
    sampler.set_epoch(1)
    second = drawn(sampler)
    assert sorted(index for index, _ in first) == list(range(20))
    assert [index for index, _ in first] != [index for index, _ in second]
    assert {epoch for _, epoch in second} == {1}


def test_epoch_one_of_seed_zero_is_not_epoch_zero_of_seed_one():
    sampler = SeededSampler(range(50), seed=0)
    sampler.set_epoch(1)
    other = SeededSampler(range(50), seed=1)
    assert [i for i, _ in drawn(sampler)] != [i for i, _ in drawn(other)]


def test_without_shuffling_the_order_is_that_of_the_dataset():
    assert [i for i, _ in drawn(SeededSampler(range(4), shuffle=False))] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 7, 9])
@pytest.mark.parametrize("round_up", [True, False])
def test_ranks_share_an_epoch(as_rank, size, round_up):
    slices = []
    for rank in range(4):
        as_rank(rank, 4)
        sampler = SeededSampler(range(size), seed=1, round_up=round_up)
        slices.append([i for i, _ in drawn(sampler)])
        assert len(sampler) == len(slices[-1])
    everything = [index for part in slices for index in part]
    assert set(everything) == set(range(size))
    if round_up:
        assert len({len(part) for part in slices}) == 1
    else:
        assert len(everything) == size
    # Interleaving the ranks gives the epoch's order, which collect_results relies on.
    as_rank(0, 1)
    whole = [i for i, _ in drawn(SeededSampler(range(size), seed=1))]
    longest = max(map(len, slices))
    rows = [part[step] for step in range(longest) for part in slices if step < len(part)]
    assert rows[:size] == whole


@pytest.mark.parametrize("position", [0, 3, 5, 12, 101])
@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 3)])
def test_an_infinite_sampler_can_start_anywhere(as_rank, position, rank, world_size):
    as_rank(rank, world_size)
    sampler = InfiniteSeededSampler(range(5), seed=2)
    expected = drawn(sampler, position + 30)[position:]
    sampler.set_position(position)
    assert drawn(sampler, 30) == expected


def test_passes_of_an_infinite_sampler_are_complete_and_numbered(as_rank):
    merged = []
    for rank in range(2):
        as_rank(rank, 2)
        merged.append(drawn(InfiniteSeededSampler(range(7), seed=2), 14))
    row = [pair for step in zip(*merged, strict=True) for pair in step]
    for number in range(4):
        chunk = row[7 * number : 7 * number + 7]
        assert sorted(index for index, _ in chunk) == list(range(7))
        assert {epoch for _, epoch in chunk} == {number}


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        SeededSampler([])
    with pytest.raises(ValueError, match="-1"):
        InfiniteSeededSampler([1]).set_position(-1)


def test_samplers_are_registered():
    assert DATA_SAMPLERS.get("SeededSampler") is SeededSampler
    assert DATA_SAMPLERS.get("InfiniteSeededSampler") is InfiniteSeededSampler


@pytest.mark.parametrize("rank", [0, 1])
def test_an_epoch_can_start_anywhere_and_the_next_one_whole(as_rank, rank):
    as_rank(rank, 2)
    sampler = SeededSampler(range(11), seed=5)
    sampler.set_epoch(2)
    whole = drawn(sampler)
    sampler.set_position(4)
    assert drawn(sampler) == whole[4:]
    assert len(sampler) == len(whole)
    sampler.set_position(len(whole))
    assert drawn(sampler) == []
    sampler.set_position(0)
    assert drawn(sampler) == whole
    with pytest.raises(ValueError, match="num_samples must be >= 0"):
        sampler.set_position(-1)
