import numpy as np
import pytest

from mmpanoptic.structures import find_runs, lookup_sorted, segment_statistics


def random_map(seed, height=13, width=17, high=5):
    rng = np.random.RandomState(seed)
    blocks = rng.randint(0, high, ((height + 3) // 4, (width + 3) // 4))
    return np.kron(blocks, np.ones((4, 4), int))[:height, :width].astype(np.int32)


@pytest.mark.parametrize("seed", range(3))
def test_runs_expand_to_the_map_they_came_from(seed):
    ids = random_map(seed)
    runs = find_runs(ids)
    np.testing.assert_array_equal(runs.expand(runs.value), ids)
    assert (runs.column + runs.length <= ids.shape[1]).all(), "a run crosses a row"


@pytest.mark.parametrize("seed", range(3))
def test_statistics_equal_a_loop_over_masks(seed):
    ids = random_map(seed)
    keys = np.arange(7)  # 5 and 6 have no pixel
    runs = find_runs(ids)
    area, box = segment_statistics(lookup_sorted(keys, runs.value), runs, len(keys))
    for key in keys:
        rows, columns = np.nonzero(ids == key)
        assert area[key] == len(rows)
        if len(rows):
            x, y = columns.min(), rows.min()
            expected = [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        else:
            expected = [0, 0, 0, 0]
        assert box[key].tolist() == expected


def test_lookup_gives_minus_one_for_unknown_values():
    keys = np.array([2, 5, 9])
    assert lookup_sorted(keys, np.array([9, 1, 2, 10, 5])).tolist() == [2, -1, 0, -1, 1]
    assert lookup_sorted(keys[:0], np.array([3])).tolist() == [-1]


def test_an_empty_map_has_no_runs():
    assert len(find_runs(np.zeros((0, 4), np.int32)).start) == 0
