"""Maps of targets lie in memory that earlier ones have left, and never in that of living ones."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mmpanoptic.models.layers import segment_batch
from mmpanoptic.models.layers.segment_batch import reused_empty

SHAPE = (3, 40, 50)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(segment_batch, "_reused", [])


def test_memory_of_a_map_that_is_gone_is_taken_again():
    first = reused_empty(SHAPE, torch.float32)
    place = first.data_ptr()
    del first
    assert reused_empty(SHAPE, torch.float32).data_ptr() == place
    assert reused_empty((3, 50, 40), torch.int32).data_ptr() == place  # as many bytes


@pytest.mark.parametrize(
    "hold",
    [
        lambda m: m,
        lambda m: m[1:, ::2],
        lambda m: m.detach(),
        lambda m: m.numpy()[0],
        lambda m: m.requires_grad_().square().sum(),  # autograd keeps the map
        lambda m: memoryview(m.numpy()),
    ],
)
def test_memory_that_anybody_holds_is_left_alone(hold):
    first = reused_empty(SHAPE, torch.float32).fill_(7)
    place, kept = first.data_ptr(), hold(first)
    del first
    others = [reused_empty(SHAPE, torch.float32) for _ in range(3)]
    assert place not in {other.data_ptr() for other in others}
    del kept


def test_threads_get_maps_of_their_own():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def fill(number):
        for _ in range(200):
            own = reused_empty(SHAPE, torch.float32).fill_(number)
            assert bool((own == number).all())

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(4)))
    finally:
        sys.setswitchinterval(interval)


def test_little_is_kept():
    for size in range(1, 60):
        reused_empty((size, size), torch.float32)
    assert len(segment_batch._reused) == segment_batch._MOST_REUSED
