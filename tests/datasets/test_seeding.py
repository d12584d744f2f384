from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
import torch

from mmpanoptic.datasets.seeding import SampleIndex, derive_seed, seed_sample


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - made in this line


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickled])
def test_sample_index_is_an_int_that_keeps_its_epoch_when_copied(clone):
    index = clone(SampleIndex(3, epoch=7, drawn=13))
    assert (index, index.epoch, index.drawn) == (3, 7, 13)
    assert [10, 11, 12, 13][index] == 13
    assert {3: "x"}[index] == "x"


def test_arithmetic_of_dataset_wrappers_keeps_epoch_and_drawn_position():
    for part in (SampleIndex(12, epoch=2) - 10, SampleIndex(12, epoch=2) % 10):
        assert (part, part.epoch, part.drawn) == (2, 2, 12)


def test_same_numbers_give_the_same_draws_and_other_numbers_others():
    seen = set()
    for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)]:
        with seed_sample(*key):
            first = draw()
        random.random(), np.random.rand(5), torch.rand(9)
        with seed_sample(*key):
            assert draw() == first
        seen.add(first)
    assert len(seen) == 4


def test_states_of_the_surrounding_program_are_restored_even_after_an_error():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw(), draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draw()
    with pytest.raises(KeyError), seed_sample(0, 0, 0):
        {draw(): 1}["missing"]
    assert (first, draw()) == expected


def test_derived_seeds_depend_on_the_order_of_the_numbers():
    assert derive_seed(0, 1) != derive_seed(1, 0)
    assert 0 <= derive_seed(5, 6) < 2**63
