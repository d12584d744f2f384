import itertools

import numpy as np
import pytest

from mmpanoptic.nas.cost import CostTable, check_ranges, within
from mmpanoptic.nas.scoring import (
    best_architectures,
    best_in_ranges,
    rank_scores,
    ridge_scores,
)
from mmpanoptic.nas.space import SearchSpace

SPACE = SearchSpace([{"name": "a", "size": 5, "choices": ["x", "y", "z"], "key": "k"}])
EVERYTHING = list(itertools.product(range(3), repeat=5))


@pytest.fixture
def effects():
    return [np.random.RandomState(i).randn(3) for i in range(5)]


def total(values, arch):
    return sum(value[choice] for value, choice in zip(values, arch, strict=True))


def test_the_best_candidate_gets_most_points():
    cycle = [((0, 0, 0, 0, 0), 1.0), ((1, 1, 1, 1, 1), 3.0), ((2, 2, 2, 2, 2), 2.0)]
    board = rank_scores(SPACE, [cycle, cycle])
    assert [points.tolist() for points in board] == [[0, 4, 2]] * 5
    assert best_architectures(SPACE, board) == [(1,) * 5, (2,) * 5, (0,) * 5]


def test_among_equals_the_earlier_candidate_and_the_larger_choice_win():
    cycle = [((0, 0, 0, 0, 0), 1.0), ((1, 1, 1, 1, 1), 1.0), ((2, 2, 2, 2, 2), 0.0)]
    assert rank_scores(SPACE, [cycle])[0].tolist() == [2, 1, 0]
    equal = [np.array([1, 1, 0])] * 5
    assert best_architectures(SPACE, equal)[0] == (1,) * 5


def test_ridge_finds_the_best_of_an_additive_landscape(effects):
    rng = np.random.RandomState(0)
    archs = [EVERYTHING[i] for i in rng.choice(len(EVERYTHING), 40, replace=False)]
    scores = ridge_scores(SPACE, [(arch, 10 + total(effects, arch)) for arch in archs], 1e-3)
    best = max(EVERYTHING, key=lambda arch: total(effects, arch))
    assert best_architectures(SPACE, scores)[0] == best
    centred = [effect - effect.mean() for effect in effects]
    np.testing.assert_allclose(scores, centred, atol=0.05)


def test_ridge_without_candidates_is_an_error():
    with pytest.raises(ValueError, match="needs candidates"):
        ridge_scores(SPACE, [])


@pytest.fixture
def table():
    rng = np.random.RandomState(7)
    costs = CostTable(SPACE)
    costs.add_fixed("neck", macs=3.0, params=1.0)
    for i in range(5):
        part = "backbone" if i < 3 else "head"
        costs.add_decision(part, macs=rng.rand(3), params=rng.rand(3), latency=rng.rand(3))
    return costs


def test_costs_add_up_over_parts(table):
    cost = table.cost((0, 1, 2, 0, 1))
    assert cost["macs"] == pytest.approx(
        cost["macs.neck"] + cost["macs.backbone"] + cost["macs.head"]
    )
    fixed, shares = table.split("macs")
    assert cost["macs"] == pytest.approx(fixed + total(shares, (0, 1, 2, 0, 1)))
    fixed, shares = table.split("macs.head")
    assert (fixed, [share.any() for share in shares]) == (0, [False] * 3 + [True] * 2)


def test_an_unknown_cost_is_an_error(table):
    with pytest.raises(ValueError, match="there is no cost 'flops'; there are macs"):
        table.split("flops")


RANGES = [
    {"macs": (None, 5.2)},
    {"macs": (5.0, 5.3)},
    {"macs.backbone": (None, 1.2), "params": (None, 3.4)},
    {"macs": (None, 5.5), "params": (3.0, 4.0), "latency": (None, 2.5)},
]


@pytest.mark.parametrize("ranges", RANGES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_the_best_within_limits_is_found(table, ranges, seed):
    scores = [np.random.RandomState(10 * seed + i).randn(3) for i in range(5)]
    allowed = [arch for arch in EVERYTHING if within(table.cost(arch), ranges)]
    best = max(allowed, key=lambda arch: total(scores, arch))
    found = best_in_ranges(table, scores, ranges)
    assert found in allowed
    assert total(scores, found) == pytest.approx(total(scores, best))


def test_limits_that_nothing_keeps_are_an_error(table):
    with pytest.raises(ValueError, match=r"found no architecture with macs in \(None, 3\)"):
        best_in_ranges(table, [np.zeros(3)] * 5, {"macs": (None, 3)})


def test_ranges_are_checked():
    assert check_ranges(None) == {}
    with pytest.raises(ValueError, match="above"):
        check_ranges({"macs": (3, 2)})
    with pytest.raises(ValueError, match="needs"):
        check_ranges({"macs": (3,)})


def test_a_real_space_is_solved_in_seconds():
    rng = np.random.RandomState(0)
    space = SearchSpace(
        [
            {"name": "a", "size": 40, "choices": ["1", "2", "3", "4"], "key": "k"},
            {"name": "b", "size": 16, "choices": ["1", "2", "3", "4", "5", "6"], "key": "l"},
        ]
    )
    table = CostTable(space)
    for count in space.num_choices:
        table.add_decision("all", macs=rng.rand(count) * 1e10)
    scores = [rng.randn(count) for count in space.num_choices]
    free = best_architectures(space, scores)[0]
    limit = 0.5 * table.cost(free)["macs"]
    found = best_in_ranges(table, scores, {"macs": (None, limit)})
    assert 0.995 * limit < table.cost(found)["macs"] <= limit
