"""Run lengths of id maps: one pass per image instead of one pass per segment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

try:
    from . import _runs
except ImportError:  # built where there is a compiler; NumPy finds the same
    _runs = None  # type: ignore[assignment]


class Runs(NamedTuple):
    """Maximal stretches of equal values inside the rows of a 2-D map.

    A run never crosses a row border, so boxes and centroids follow from its ends alone.

    Attributes:
        start (np.ndarray): int64 ``(R,)``, flat index of the first pixel.
        length (np.ndarray): int64 ``(R,)``, number of pixels.
        value (np.ndarray): ``(R,)``, the map's value, in the map's dtype.
        shape (tuple[int, int]): ``(H, W)`` of the map.
    """

    start: np.ndarray
    length: np.ndarray
    value: np.ndarray
    shape: tuple[int, int]

    @property
    def row(self) -> np.ndarray:
        """Row index of each run, int64 ``(R,)``."""
        return self.start // self.shape[1]

    @property
    def column(self) -> np.ndarray:
        """Column index of the first pixel of each run, int64 ``(R,)``."""
        return self.start % self.shape[1]

    def expand(self, per_run: np.ndarray) -> np.ndarray:
        """Paint one value per run into a map ``(H, W)`` of the dtype of ``per_run`` ``(R,)``."""
        return np.repeat(per_run, self.length).reshape(self.shape)


class FlatRuns(NamedTuple):
    """Maximal stretches of equal values of a flattened map; they may continue over row ends.

    Attributes:
        shape (tuple[int, int]): ``(H, W)`` of the map.
        start (np.ndarray): int64 ``(R,)``, flat index of the first pixel, ascending from 0.
        value (np.ndarray): Integers ``(R,)``, the map's value.
    """

    shape: tuple[int, int]
    start: np.ndarray
    value: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Pixels of each run, int64 ``(R,)``."""
        return np.diff(self.start, append=self.shape[0] * self.shape[1])


def flat_runs(ids: np.ndarray) -> FlatRuns:
    """Cut a map ``(H, W)`` of integers into runs over row ends."""
    runs = find_runs(ids.reshape(1, -1))
    return FlatRuns((ids.shape[0], ids.shape[1]), runs.start, runs.value)


def color_runs(color: np.ndarray) -> FlatRuns:
    """Cut colours into runs of segment ids, without a map of ids in between.

    Args:
        color (np.ndarray): uint8 ``(H, W, 3)`` in RGB order.

    Returns:
        FlatRuns: Of int32 ids, ``id = R + 256 G + 65536 B``.
    """
    color = np.ascontiguousarray(color)
    start, value = _runs_by_numpy(color) if _runs is None else _compiled_runs(color)
    return FlatRuns((color.shape[0], color.shape[1]), start, value)


def joint_color_runs(one: np.ndarray, two: np.ndarray) -> tuple[FlatRuns, FlatRuns]:
    """Cut two maps of one image into runs for counting areas and common pixels, and nothing else.

    The compiled pass puts the pixels into another order, the same in both maps, in which each pair
    of ids is one run: a hundred runs instead of thousands.

    Args:
        one (np.ndarray): uint8 ``(H, W, 3)`` in RGB order.
        two (np.ndarray): Of the same shape.

    Returns:
        tuple[FlatRuns, FlatRuns]: Of int32 ids.
    """
    if _runs is None:
        return color_runs(one), color_runs(two)
    found = _runs.color_pairs(np.ascontiguousarray(one), np.ascontiguousarray(two))
    length = np.frombuffer(found[2], np.int64)
    start = np.cumsum(length) - length
    first, second = (np.frombuffer(ids, np.int32) for ids in found[:2])
    shape = (one.shape[0], one.shape[1])
    return FlatRuns(shape, start, first), FlatRuns(shape, start, second)


def undo_png_filters(rows: bytearray, shape: tuple[int, int]) -> np.ndarray | None:
    """Turn the filtered rows of an RGB PNG into pixels, long stretches of one colour at once.

    Args:
        rows (bytearray): Each row's filter and differences; overwritten.
        shape (tuple[int, int]): ``(H, W)``.

    Returns:
        np.ndarray | None: uint8 ``(H, W, 3)`` in the memory of the rows; None where a filter is
        unknown, or nothing is compiled.
    """
    if not hasattr(_runs, "undo_filters") or not _runs.undo_filters(rows, 3 * shape[1]):
        return None
    return np.frombuffer(rows, np.uint8, 3 * shape[0] * shape[1]).reshape(*shape, 3)


def _compiled_runs(color: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start, value = _runs.color_runs(color)
    return np.frombuffer(start, np.int64), np.frombuffer(value, np.int32)


def _runs_by_numpy(color: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find what the compiled pass finds: starts and ids ``(R,)`` of the runs of ``(H, W, 3)``."""
    flat = color.reshape(-1)
    channels = color.shape[2]
    if not flat.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    # Bytes are compared with those of the pixel before; a run starts where any of three differs.
    change = np.zeros(-(-flat.size // 8) * 8, bool)
    change[:channels] = True
    np.not_equal(flat[channels:], flat[:-channels], out=change[channels : flat.size])
    # Most eights of bytes hold no change, and are passed over as one number.
    words = change.view(np.uint64)
    word = np.flatnonzero(words != 0)
    byte = np.flatnonzero(words[word].view(bool))
    start = _drop_repeated(((word[byte >> 3] << 3) + (byte & 7)) // channels)
    value = color.reshape(-1, channels)[start].astype(np.int32)
    return start, value[:, 0] | value[:, 1] << 8 | value[:, 2] << 16


def find_runs(ids: np.ndarray) -> Runs:
    """Cut an id map into its row-wise runs.

    Args:
        ids (np.ndarray): Integer map ``(H, W)``.

    Returns:
        Runs: In row-major order.
    """
    height, width = ids.shape
    flat = ids.ravel()
    if not flat.size:
        empty = np.zeros(0, np.int64)
        return Runs(empty, empty, flat, (height, width))
    change = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[::width] = True
    start = np.flatnonzero(change)
    length = np.diff(start, append=flat.size)
    return Runs(start, length, flat[start], (height, width))


def row_runs(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut maps into runs inside their rows.

    Args:
        index (np.ndarray): int32 ``(..., W)``, contiguous.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 flat index of the first pixel of each run, and its
        int32 value, both ``(R,)``.
    """
    if not hasattr(_runs, "row_runs"):
        runs = find_runs(index.reshape(-1, index.shape[-1]))
        return runs.start, runs.value
    start, value = _runs.row_runs(np.ascontiguousarray(index), index.shape[-1])
    return np.frombuffer(start, np.int64), np.frombuffer(value, np.int32)


def paint_runs(out: np.ndarray, start: np.ndarray, values: np.ndarray) -> None:
    """Fill a map with one value per run.

    Args:
        out (np.ndarray): Of any shape, contiguous; its elements have 1, 4 or 8 bytes.
        start (np.ndarray): int64 ``(R,)``, flat index of the first pixel of each run, from 0.
        values (np.ndarray): ``(R,)`` of the dtype of ``out``.
    """
    if not hasattr(_runs, "paint_runs"):
        out.reshape(-1)[...] = np.repeat(values, np.diff(start, append=out.size))
    else:
        _runs.paint_runs(out, start, np.ascontiguousarray(values), out.itemsize)


def paint_columns(out: np.ndarray, start: np.ndarray, goal: np.ndarray) -> None:
    """Fill a map with the way along the rows to a goal, which is computed in double precision.

    Args:
        out (np.ndarray): float32 ``(..., W)``, contiguous.
        start (np.ndarray): int64 ``(R,)``, flat index of the first pixel of each run inside a row.
        goal (np.ndarray): float64 ``(R,)``, column that is gone to; NaN: the way is 0.
    """
    width = out.shape[-1]
    if hasattr(_runs, "paint_columns"):
        _runs.paint_columns(out, start, goal, width)
        return
    to = np.repeat(goal, np.diff(start, append=out.size)).reshape(out.shape)
    way = (to - np.arange(width, dtype=np.float64)).astype(np.float32)
    np.copyto(out, np.where(np.isnan(to), np.float32(0), way))


def sorted_unique(values: np.ndarray) -> np.ndarray:
    """Sort integers ``(N,)`` and keep one of each, as :func:`np.unique`, which loads ``np.ma``."""
    return _drop_repeated(np.sort(values))


def _drop_repeated(ascending: np.ndarray) -> np.ndarray:
    new = np.ones(len(ascending), bool)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return ascending[new]


def lookup_sorted(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Find each value's position in a sorted array.

    Args:
        keys (np.ndarray): Sorted unique integers ``(K,)``.
        values (np.ndarray): Integers ``(N,)``.

    Returns:
        np.ndarray: int64 ``(N,)``; -1 where a value is not among the keys.
    """
    if not len(keys):
        return np.full(len(values), -1, np.int64)
    position = np.searchsorted(keys, values)
    position[position == len(keys)] = 0
    return np.where(keys[position] == values, position, -1)


def segment_statistics(
    index: np.ndarray, runs: Runs, num_segments: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute area and box of every segment from runs.

    Args:
        index (np.ndarray): int64 ``(R,)``, segment of each run in ``[0, num_segments)``; runs
            with a negative index belong to no segment.
        runs (Runs): The runs of the map.
        num_segments (int): Number of segments S.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 areas ``(S,)`` in pixels and int64 boxes ``(S, 4)``
        as ``x, y, w, h`` (``x + w`` is exclusive). A segment without pixels has area 0 and the
        box ``0, 0, 0, 0``.
    """
    used = index >= 0
    index, length = index[used], runs.length[used]
    row, column = runs.row[used], runs.column[used]
    area = np.zeros(num_segments, np.int64)
    np.add.at(area, index, length)
    low = np.full((num_segments, 2), np.iinfo(np.int64).max)
    high = np.zeros((num_segments, 2), np.int64)
    np.minimum.at(low, index, np.stack([column, row], 1))
    np.maximum.at(high, index, np.stack([column + length, row + 1], 1))
    low[area == 0] = 0
    return area, np.concatenate([low, high - low], axis=1)
