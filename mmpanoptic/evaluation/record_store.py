"""Records that wait for the end of an evaluation, kept where they pin no other memory.

A record is small, but among the big temporary arrays of an image it lands in the hole that one of
them has left, and the next image's array does not fit into what remains: the process would grow by
an array an image, although nearly all of it is free. So the bytes of records lie in memory of
their own, and what remains of them is small enough for Python's own allocator.
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

Record = TypeVar("Record")

_CHUNK = 1 << 20
_SMALL = 400  # bytes; Python's allocator takes objects up to 512
_PART = 48  # references in a tuple of about this size
_ALIGNMENT = 16


class _Array(NamedTuple):
    """An array in a store."""

    chunk: int
    offset: int
    dtype: str
    shape: tuple[int, ...]


class _Text(NamedTuple):
    """A long text, or bytes."""

    data: _Array
    encoded: bool


class _List(NamedTuple):
    """A long list."""

    parts: tuple[tuple[Any, ...], ...]


class RecordStore:
    """Memory for the arrays, long texts and lists of records."""

    def __init__(self) -> None:
        self._chunks: list[np.ndarray] = []
        self._used = 0

    def pack(self, record: Record) -> Record:
        """Move the bytes of a record into the store.

        Args:
            record: Dataclasses, tuples, lists, dicts, arrays and plain values in each other.

        Returns:
            The record's shell, for :meth:`unpack`.
        """
        return _mapped(record, self._put)

    def unpack(self, shell: Record) -> Record:
        """Put a record together again; its arrays are views of the store.

        Args:
            shell: What :meth:`pack` returned.

        Returns:
            The record.
        """
        return _mapped(shell, self._get)

    def clear(self) -> None:
        """Forget everything; arrays that were unpacked stay valid."""
        self._chunks.clear()
        self._used = 0

    def _put(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return self._keep(value)
        if isinstance(value, str | bytes) and len(value) > _SMALL:
            data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            return _Text(self._keep(np.frombuffer(data, np.uint8)), isinstance(value, str))
        if isinstance(value, list) and len(value) > _PART:
            starts = range(0, len(value), _PART)
            parts = (tuple(value[start : start + _PART]) for start in starts)
            return _List(tuple(_mapped(part, self._put) for part in parts))
        return None

    def _get(self, value: Any) -> Any:
        if isinstance(value, _Array):
            chunk, dtype = self._chunks[value.chunk], np.dtype(value.dtype)
            end = value.offset + dtype.itemsize * int(np.prod(value.shape, dtype=np.int64))
            return chunk[value.offset : end].view(dtype).reshape(value.shape)
        if isinstance(value, _Text):
            data = self._get(value.data).tobytes()
            return data.decode("utf-8", "surrogatepass") if value.encoded else data
        if isinstance(value, _List):
            return [item for part in value.parts for item in _mapped(part, self._get)]
        return None

    def _keep(self, array: np.ndarray) -> _Array:
        if not self._chunks or self._used + array.nbytes > len(self._chunks[-1]):
            memory = mmap.mmap(-1, max(_CHUNK, array.nbytes))
            self._chunks.append(np.frombuffer(memory, np.uint8))
            self._used = 0
        start, end = self._used, self._used + array.nbytes
        kept = self._chunks[-1][start:end].view(array.dtype).reshape(array.shape)
        kept[...] = array
        self._used = end + -end % _ALIGNMENT
        return _Array(len(self._chunks) - 1, start, array.dtype.str, array.shape)


def _mapped(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Copy nested values; where ``leaf`` returns something, it stands for the value."""
    changed = leaf(value)
    if changed is not None:
        return changed
    if is_dataclass(value) and not isinstance(value, type):
        shell = copy.copy(value)
        for field in fields(value):
            object.__setattr__(shell, field.name, _mapped(getattr(value, field.name), leaf))
        return shell
    if isinstance(value, tuple):
        items = (_mapped(item, leaf) for item in value)
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [_mapped(item, leaf) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, leaf) for key, item in value.items()}
    return value
