import numpy as np
import pytest

from mmpanoptic.structures import (
    color_runs,
    find_runs,
    flat_runs,
    id2rgb,
    joint_color_runs,
    lookup_sorted,
    segment_statistics,
    sorted_unique,
)
from mmpanoptic.structures import runs as runs_module


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


@pytest.fixture(params=["compiled", "numpy"])
def way(request, monkeypatch):
    """Both ways to find runs of colours; which of them is used depends on a compiler."""
    if request.param == "numpy":
        monkeypatch.setattr(runs_module, "_runs", None)
    elif runs_module._runs is None:
        pytest.skip("the pass over colours is not compiled: install mmpanoptic with a C compiler")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 3), (40, 60), (211, 97)])
@pytest.mark.parametrize("colors", [1, 3, 200])
@pytest.mark.parametrize("stay", [0.0, 0.7, 0.995])
def test_runs_of_colours_are_runs_of_ids(way, shape, colors, stay):
    rng = np.random.default_rng(colors)
    ids = rng.integers(0, 1 << 24, colors)[rng.integers(0, colors, shape)].astype(np.int32)
    for column in range(1, shape[1]):
        same = rng.random(shape[0]) < stay
        ids[same, column] = ids[same, column - 1]
    found, expected = color_runs(id2rgb(ids)), flat_runs(ids)
    assert found.shape == expected.shape == shape
    assert found.start.dtype == np.int64
    assert found.value.dtype == np.int32
    np.testing.assert_array_equal(found.start, expected.start)
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.length, expected.length)


def test_runs_that_differ_in_one_channel_only(way):
    color = np.zeros((1, 20, 3), np.uint8)
    color[0, 1, 0] = color[0, 2, 1] = color[0, 19, 2] = 1
    assert color_runs(color).value.tolist() == [0, 1, 256, 0, 65536]
    assert len(color_runs(color[:, :0]).start) == 0


def test_runs_of_a_window_of_four_channels(way):
    """As a PNG with alpha gives them: not contiguous."""
    color = np.random.default_rng(0).integers(0, 2, (7, 9, 4), np.uint8)
    found, expected = color_runs(color[..., :3]), color_runs(color[..., :3].copy())
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("colors", [1, 4, 3000])
@pytest.mark.parametrize("shape", [(1, 1), (9, 13), (120, 90)])
def test_joint_runs_count_areas_and_common_pixels(way, colors, shape):
    rng = np.random.default_rng(colors)
    palette = rng.integers(0, 1 << 24, colors)
    palette[0] = (1 << 24) - 1
    maps = [palette[rng.integers(0, colors, shape)].astype(np.int32) for _ in range(2)]
    for ids in maps:
        ids[:, shape[1] // 2 :] = ids[0, 0]
    runs = joint_color_runs(*map(id2rgb, maps))
    assert [run.shape for run in runs] == [shape, shape]
    for run, ids in zip(runs, maps, strict=True):
        assert (run.start[0], run.start.dtype, run.value.dtype) == (0, np.int64, np.int32)
        found = np.repeat(run.value, run.length)
        np.testing.assert_array_equal(np.sort(found), np.sort(ids.ravel()))
    pairs = [np.repeat(run.value, run.length).astype(np.int64) for run in runs]
    wanted = maps[0].ravel().astype(np.int64) << 24 | maps[1].ravel()
    np.testing.assert_array_equal(np.sort(pairs[0] << 24 | pairs[1]), np.sort(wanted))


def test_the_compiled_passes_refuse_what_is_no_colour():
    compiled = pytest.importorskip("mmpanoptic.structures._runs")
    with pytest.raises(ValueError, match="three bytes for each pixel"):
        compiled.color_runs(b"abcd")
    with pytest.raises(TypeError):
        compiled.color_runs(3)
    for pair in ((b"abc", b"abcdef"), (b"abcd", b"abcd")):
        with pytest.raises(ValueError, match="three bytes for each of the same pixels"):
            compiled.color_pairs(*pair)
    with pytest.raises(TypeError):
        compiled.color_pairs(b"abc")


@pytest.mark.parametrize("values", [[], [3], [5, 1, 5, 5, 2, 1]])
def test_sorted_unique_is_unique(values):
    values = np.array(values, np.int32)
    found = sorted_unique(values)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.unique(values))


@pytest.mark.parametrize("compiled", [True, False])
def test_maps_painted_by_runs_inside_rows(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(runs_module, "_runs", None)
    rng = np.random.default_rng(0)
    index = np.repeat(rng.integers(0, 3, (2, 5, 8)), 3, axis=2).astype(np.int32)
    start, value = runs_module.row_runs(index[:, :, ::-1])
    expected = find_runs(index[:, :, ::-1].reshape(-1, 24))
    np.testing.assert_array_equal(start, expected.start)
    np.testing.assert_array_equal(value, expected.value)
    for dtype in (bool, np.float32, np.int64):
        out = np.empty(index.shape, dtype)
        runs_module.paint_runs(out, start, value.astype(dtype))
        np.testing.assert_array_equal(out, index[:, :, ::-1].astype(dtype))
    way = np.empty(index.shape, np.float32)
    goal = np.where(value == 1, np.nan, value + 0.1)
    runs_module.paint_columns(way, start, goal)
    to = index[:, :, ::-1] + 0.1 - np.arange(24)
    to[index[:, :, ::-1] == 1] = 0
    np.testing.assert_array_equal(way, to.astype(np.float32))


def test_runs_that_do_not_fit_a_map_are_refused():
    if runs_module._runs is None:
        pytest.skip("the passes are not compiled")
    out = np.zeros(6, np.float32)
    for start, values in (([0, 7], [1, 2]), ([1], [1]), ([0, 3, 2], [1, 2, 3]), ([0, 2], [1])):
        with pytest.raises(ValueError, match="ascend"):
            runs_module.paint_runs(out, np.array(start), np.array(values, np.float32))
        with pytest.raises(ValueError, match="ascend"):
            runs_module._runs.paint_columns(out, np.array(start), np.array(values, float), 6)
    with pytest.raises(ValueError, match="whole rows"):
        runs_module._runs.row_runs(np.zeros(5, np.int32), 3)
