import numpy as np
import pytest

from mmpanoptic.structures import (
    color_runs,
    find_runs,
    flat_runs,
    id2rgb,
    lookup_sorted,
    segment_statistics,
)


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


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 60)])
@pytest.mark.parametrize("colors", [1, 3, 200])
def test_runs_of_colours_are_runs_of_ids(shape, colors):
    rng = np.random.default_rng(colors)
    ids = rng.integers(0, 1 << 24, colors)[rng.integers(0, colors, shape)].astype(np.int32)
    ids[:, 1:] = np.where(rng.random((shape[0], shape[1] - 1)) < 0.7, ids[:, :-1], ids[:, 1:])
    found, expected = color_runs(id2rgb(ids)), flat_runs(ids)
    assert found.shape == expected.shape == shape
    np.testing.assert_array_equal(found.start, expected.start)
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.length, expected.length)


def test_runs_that_differ_in_one_channel_only():
    color = np.zeros((1, 4, 3), np.uint8)
    color[0, 1, 0] = color[0, 2, 1] = color[0, 3, 2] = 1
    assert color_runs(color).value.tolist() == [0, 1, 256, 65536]
    assert len(color_runs(color[:, :0]).start) == 0
