from itertools import islice

import pytest
from torch.utils.data import SequentialSampler

from mmpanoptic.datasets import AspectRatioBatchSampler, InfiniteSeededSampler, SeededSampler


class Sizes:
    """A dataset of which only the sizes matter: every third image is higher than wide."""

    def __init__(self, count):
        self.count = count
        self.asked = 0

    def __len__(self):
        return self.count

    def get_data_info(self, index):
        self.asked += 1
        return {"width": 5, "height": 9 if index % 3 == 0 else 5}


def is_high(index):
    return index % 3 == 0


def test_batches_hold_images_of_one_orientation():
    sampler = InfiniteSeededSampler(Sizes(20), seed=0)
    batches = list(islice(AspectRatioBatchSampler(sampler, 4), 50))
    assert all(len(batch) == 4 for batch in batches)
    assert all(len({is_high(index) for index in batch}) == 1 for batch in batches)
    assert {is_high(batch[0]) for batch in batches} == {True, False}


def test_no_image_is_lost_and_indices_keep_their_epoch():
    sampler = SeededSampler(Sizes(19), seed=0)
    sampler.set_epoch(3)
    batches = list(AspectRatioBatchSampler(sampler, 4))
    assert sorted(int(index) for batch in batches for index in batch) == list(range(19))
    assert {index.epoch for batch in batches for index in batch} == {3}
    assert sum(len({is_high(index) for index in batch}) > 1 for batch in batches) <= 1


def test_incomplete_batches_can_be_dropped():
    batches = list(AspectRatioBatchSampler(SeededSampler(Sizes(19)), 4, drop_last=True))
    assert [len(batch) for batch in batches] == [4] * 4


@pytest.mark.parametrize("done", [0, 1, 7])
def test_a_position_skips_batches(done):
    def batches(position, count):
        grouped = AspectRatioBatchSampler(InfiniteSeededSampler(Sizes(20), seed=0), 3)
        grouped.set_position(position)
        return list(islice(grouped, count))

    assert batches(3 * done, 5) == batches(0, done + 5)[done:]


def test_sizes_are_looked_up_once():
    dataset = Sizes(10)
    list(islice(AspectRatioBatchSampler(InfiniteSeededSampler(dataset), 2), 100))
    assert dataset.asked == 10


def test_the_sampler_must_know_its_dataset():
    with pytest.raises(ValueError, match=r"SequentialSampler has none; take InfiniteSeeded"):
        AspectRatioBatchSampler(SequentialSampler(range(3)), 2)


def test_the_batch_size_is_checked():
    with pytest.raises(ValueError, match="batch_size"):
        AspectRatioBatchSampler(SeededSampler(Sizes(3)), 0)
