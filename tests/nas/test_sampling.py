import numpy as np
import pytest

from mmpanoptic.nas.sampling import FairPaths, UniformPaths
from mmpanoptic.nas.space import SearchSpace
from tests.nas.toy import SPACE


@pytest.fixture
def space():
    return SearchSpace(SPACE)


def counts(space, paths):
    table = np.array(paths)
    return [np.bincount(table[:, i], minlength=n) for i, n in enumerate(space.num_choices)]


@pytest.mark.parametrize("first", [0, 6, 600])
def test_every_window_uses_every_choice_equally_often(space, first):
    paths = [FairPaths(space, seed=3)(i) for i in range(first, first + space.window)]
    for used, number in zip(counts(space, paths), space.num_choices, strict=True):
        assert used.tolist() == [space.window // number] * number


def test_late_windows_do_not(space):
    late = FairPaths(space, 3, strict_legacy_windows=True)
    paths = [late(i) for i in range(60)]
    windows = [paths[i : i + space.window] for i in range(0, 60, space.window)]
    assert any(len(set(used.tolist())) > 1 for window in windows for used in counts(space, window))


@pytest.mark.parametrize("sampler", [FairPaths, UniformPaths])
def test_a_path_follows_from_seed_and_iteration_alone(space, sampler):
    one, other = sampler(space, 5), sampler(space, 5)
    forwards = [one(i) for i in range(30)]
    backwards = [other(i) for i in reversed(range(30))]
    assert forwards == backwards[::-1]
    assert forwards != [sampler(space, 6)(i) for i in range(30)]


def test_uniform_paths_use_all_choices(space):
    paths = UniformPaths(space, 0)
    for used in counts(space, [paths(i) for i in range(3000)]):
        assert used.min() > 0.85 * used.mean()
