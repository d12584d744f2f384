"""Run-length cache of panoptic PNGs: one file per split instead of decoding every PNG."""

from __future__ import annotations

import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.archives import file_stamp, split_archive_path

SUFFIX = ".runs"

_MAGIC = b"MMPRUNS1"
_HEAD = struct.Struct("<8sQQQ")  # magic, entries, bytes of the names, bytes of the ids
_PROBES = 64  # files looked at when a dataset opens its cache
_LONGEST = 65535  # lengths are uint16; longer runs are cut
_TABLE = np.dtype(
    [
        ("size", "<u8"),  # of the PNG in bytes
        ("mtime", "<i8"),  # of the PNG in nanoseconds
        ("height", "<u4"),
        ("width", "<u4"),
        ("runs", "<u4"),
        ("ids", "<u4"),  # number of listed segments
        ("id_start", "<u8"),
        ("start", "<u8"),  # of the compressed runs, from the beginning of the file
        ("bytes", "<u4"),
    ]
)


def cache_path(folder: str | os.PathLike[str]) -> Path:
    """Return where the cache of a PNG folder lies: ``x.runs`` beside ``x/``.

    Args:
        folder: The folder; that of a folder in a zip archive lies beside the archive.
    """
    text = os.fspath(folder).rstrip("/\\")
    parts = split_archive_path(text)
    if parts is not None:
        text = ".".join([parts[0], *filter(None, parts[1].split("/"))])
    return Path(text + SUFFIX)


class CacheEntry(NamedTuple):
    """One PNG in the cache.

    Attributes:
        name (str): Path relative to the PNG folder.
        size (int): Of the PNG, or of the zip archive in which it lies, in bytes.
        mtime (int): Likewise, time of change in nanoseconds.
        shape (tuple[int, int]): ``(H, W)``.
        ids (np.ndarray): uint32, the segment ids in the order of ``segments_info``.
        runs (int): Number of runs.
        data (bytes): Compressed lengths (uint16) and indices (uint8, or uint16 from 256 segments
            on) of the runs.
    """

    name: str
    size: int
    mtime: int
    shape: tuple[int, int]
    ids: np.ndarray
    runs: int
    data: bytes


def make_entry(
    name: str, stamp: tuple[int, int], index_map: np.ndarray, ids: Sequence[int]
) -> CacheEntry:
    """Encode an index map.

    Args:
        name: Path of the PNG relative to its folder.
        stamp: :func:`~mmpanoptic.utils.archives.file_stamp` of the PNG, from before it was read.
        index_map (np.ndarray): ``(H, W)``, 0 = void, k = k-th segment.
        ids: Segment ids in the order of ``segments_info``.

    Returns:
        CacheEntry: The entry.
    """
    flat = index_map.ravel()
    start = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]) if flat.size else [])
    length = np.diff(start, append=flat.size)
    pieces = -(-length // _LONGEST)
    lengths = np.full(int(pieces.sum()), _LONGEST, "<u2")
    lengths[np.cumsum(pieces) - 1] = length - (pieces - 1) * _LONGEST
    values = np.repeat(flat[start], pieces).astype(_index_dtype(len(ids)))
    data = zlib.compress(lengths.tobytes() + values.tobytes(), 6)
    height, width = index_map.shape
    listed = np.array(ids, "<u4")
    return CacheEntry(name, *stamp, (height, width), listed, len(lengths), data)


def _index_dtype(num_segments: int) -> str:
    return "<u1" if num_segments < 256 else "<u2"


def write_cache(path: Path, entries: Iterable[CacheEntry]) -> None:
    """Write a cache file, whole or not at all.

    Args:
        path: The file.
        entries: In any order; the file is sorted by name.
    """
    entries = sorted(entries, key=lambda entry: entry.name)
    names = "\n".join(entry.name for entry in entries).encode()
    ids = np.concatenate([entry.ids for entry in entries] or [np.zeros(0, "<u4")])
    table = np.zeros(len(entries), _TABLE)
    start = _HEAD.size + len(names) + table.nbytes + ids.nbytes
    id_start = 0
    for position, entry in enumerate(entries):
        sizes = (entry.size, entry.mtime, *entry.shape, entry.runs, len(entry.ids))
        table[position] = (*sizes, id_start, start, len(entry.data))
        start += len(entry.data)
        id_start += len(entry.ids)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_HEAD.pack(_MAGIC, len(entries), len(names), ids.nbytes))
        for part in (names, table.tobytes(), ids.tobytes()):
            file.write(part)
        for entry in entries:
            file.write(entry.data)


class PanopticCache:
    """Reader of a cache file.

    Opens the file in every process that uses it (it can be pickled and forked), and checks size
    and modification time of each PNG at each access: a changed PNG is never served from the
    cache.

    Args:
        path: The cache file.
        folder: Folder of the PNGs; default: the file's path without ``.runs``.

    Raises:
        ValueError: If the file is no cache, or cut off.
        FileNotFoundError: If there is no such file.
    """

    def __init__(
        self, path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.path = os.fspath(path)
        self.folder = os.fspath(folder) if folder else self.path.removesuffix(SUFFIX)
        self._prefix = os.path.join(self.folder, "")
        with open(self.path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._read_head()

    def _read_head(self) -> None:
        if len(self._map) < _HEAD.size or self._map[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"{self.path} is no run-length cache; make it again")
        _, count, name_bytes, id_bytes = _HEAD.unpack(self._map[: _HEAD.size])
        start = _HEAD.size + name_bytes
        end = start + count * _TABLE.itemsize + id_bytes
        if len(self._map) < end:
            raise ValueError(f"{self.path} is cut off; delete it and make it again")
        names = self._map[_HEAD.size : start].decode().split("\n") if count else []
        self._position = {name: position for position, name in enumerate(names)}
        self._table = np.frombuffer(self._map[start : start + count * _TABLE.itemsize], _TABLE)
        self._ids = np.frombuffer(self._map[end - id_bytes : end], "<u4")
        last = self._table[-1] if count else None
        if last is not None and len(self._map) != int(last["start"]) + int(last["bytes"]):
            raise ValueError(f"{self.path} is cut off; delete it and make it again")

    def __len__(self) -> int:
        return len(self._table)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["folder"])  # type: ignore[misc]

    def get(
        self, path: str | os.PathLike[str], segment_ids: Sequence[int] | None = None
    ) -> np.ndarray | None:
        """Read the index map of a PNG.

        Args:
            path: Of the PNG.
            segment_ids: Ids in the order of ``segments_info``; the cache is outdated if it was
                made from others.

        Returns:
            np.ndarray | None: uint8 or uint16 ``(H, W)``, 0 = void, k = k-th segment; None if the
            PNG is not in the cache, has changed, or is listed otherwise.

        Raises:
            ValueError: If the cache file is damaged.
        """
        row = self._fresh_row(path, segment_ids)
        if row is None:
            return None
        start, size = int(row["start"]), int(row["bytes"])
        count, dtype = int(row["runs"]), np.dtype(_index_dtype(int(row["ids"])))
        try:
            data = zlib.decompress(self._map[start : start + size])
            lengths = np.frombuffer(data, "<u2", count)
            values = np.frombuffer(data, dtype, count, offset=2 * count)
            index_map = np.repeat(values, lengths)
            return index_map.reshape(int(row["height"]), int(row["width"]))
        except (zlib.error, ValueError) as error:
            raise ValueError(
                f"{self.path} is damaged ({error}); delete it and make it again"
            ) from error

    def is_fresh(
        self, path: str | os.PathLike[str], segment_ids: Sequence[int] | None = None
    ) -> bool:
        """Tell whether :meth:`get` would return a map, without reading it."""
        return self._fresh_row(path, segment_ids) is not None

    def entry(self, name: str) -> CacheEntry:
        """Return the entry of a PNG by its name, to copy it into another file.

        Raises:
            KeyError: If there is none.
        """
        row = self._table[self._position[name]]
        start, size = int(row["start"]), int(row["bytes"])
        shape = (int(row["height"]), int(row["width"]))
        data = bytes(self._map[start : start + size])
        stamp = (int(row["size"]), int(row["mtime"]))
        return CacheEntry(name, *stamp, shape, self._listed(row), int(row["runs"]), data)

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        return list(self._position)

    def _listed(self, row: Any) -> np.ndarray:
        start = int(row["id_start"])
        return self._ids[start : start + int(row["ids"])]

    def _fresh_row(
        self, path: str | os.PathLike[str], segment_ids: Sequence[int] | None
    ) -> Any | None:
        text = os.fspath(path)
        if not text.startswith(self._prefix):
            return None
        position = self._position.get(text[len(self._prefix) :].replace(os.sep, "/"))
        if position is None:
            return None
        row = self._table[position]
        try:
            stamp = file_stamp(text)
        except OSError:
            return None
        if stamp != (row["size"], row["mtime"]):
            return None
        if segment_ids is not None and not np.array_equal(self._listed(row), segment_ids):
            return None
        return row


def open_cache(folder: str, records: Sequence[Mapping[str, Any]]) -> PanopticCache | None:
    """Open the cache of a PNG folder if there is one, and say whether it is used.

    Args:
        folder: The PNG folder.
        records: Of the dataset, with ``seg_map_path`` and ``segments_info``.

    Returns:
        PanopticCache | None: None if there is no cache, or it is outdated as a whole.
    """
    path = cache_path(folder)
    if not folder or not path.is_file():
        return None
    from mmengine.logging import print_log  # imports torch, which who writes a cache does not need

    again = "make it again with tools/dataset_converters/cache_panoptic.py"
    try:
        cache = PanopticCache(path, folder)
    except ValueError as error:
        print_log(f"the run-length cache is not used: {error}", "current", logging.WARNING)
        return None
    # A look at every file would take long on a network disk; each is checked when it is read.
    probes = range(0, len(records), max(1, len(records) // _PROBES))
    fresh = sum(_is_fresh(cache, records[k]) for k in probes)
    if not fresh:
        text = f"{path} is outdated and not used; {again}"
        print_log(text, "current", logging.WARNING)
        return None
    text = f"panoptic PNGs are read from the run-length cache {path}"
    if fresh < len(probes):
        text += f", but {len(probes) - fresh} of {len(probes)} looked at are outdated; {again}"
    level = logging.INFO if fresh == len(probes) else logging.WARNING
    print_log(text, "current", level)
    return cache


def _is_fresh(cache: PanopticCache, record: Mapping[str, Any]) -> bool:
    ids = [segment["id"] for segment in record["segments_info"]]
    return cache.is_fresh(record["seg_map_path"], ids)
