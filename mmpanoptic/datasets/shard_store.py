"""Shards of a set: what its JSON says of them, and a cache of those that lie on a server."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated

import msgspec
from filelock import FileLock

from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.files import (
    WriteError,
    explained_writes,
    home_folder,
    is_file_name,
    is_inside,
)
from mmpanoptic.utils.format_errors import format_error

ATTEMPTS = 4
"""To read a file of a server before a run is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; each further one waits twice as long."""
_CHUNK = 1 << 20
_LARGEST_JSON = 8 << 30  # bytes


class Shard(msgspec.Struct, frozen=True):
    """An entry of ``shards`` in the JSON that ``convert shard`` writes.

    Attributes:
        name (str): File beside the JSON.
        samples (int): Images in it.
        bytes (int): Its size.
        sha256 (str): Hash of its content.
    """

    name: str
    samples: Annotated[int, msgspec.Meta(ge=1)]
    bytes: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _File(msgspec.Struct):
    shards: list[Shard]


def read_shards(ann_file: str | os.PathLike[str]) -> list[Shard]:
    """Read the list of the shards.

    Args:
        ann_file: The JSON.

    Returns:
        list[Shard]: In the order of the annotations.

    Raises:
        PanopticFormatError: If the file has no such list, or names a file elsewhere.
    """
    try:
        shards = msgspec.json.decode(Path(ann_file).read_bytes(), type=_File).shards
    except (msgspec.MsgspecError, UnicodeError) as error:
        detail = f"{error}; expected the JSON that tools/dataset_converters/shard.py writes"
        raise format_error("bad_field", detail, ann_file) from error
    for shard in shards:
        if not is_file_name(shard.name) or not is_inside(shard.name) or "\\" in shard.name:
            detail = f"shards: {shard.name!r} is no file beside the JSON"
            raise format_error("unsafe_path", detail, ann_file)
    return shards


def check_local(folder: str | os.PathLike[str], shards: Sequence[Shard]) -> None:
    """Look whether shards are there and have their sizes.

    Args:
        folder: Where they lie.
        shards (Sequence[Shard]): Which.

    Raises:
        PanopticFormatError: Naming the first one that is missing or cut off.
    """
    for shard in shards:
        path = Path(folder, shard.name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise format_error("missing_file", "there is no such shard", path) from None
        if size != shard.bytes:
            detail = f"the shard has {size:,} bytes, the JSON says {shard.bytes:,}"
            raise format_error("damaged_shard", detail, path)


def is_address(root: str | os.PathLike[str] | None) -> bool:
    """Tell whether shards lie on a server."""
    return root is not None and "://" in os.fspath(root)


@lru_cache(maxsize=64)
def fetch_annotations(root: str, cache: str | None, name: str) -> Path:
    """Fetch the JSON of a set once in the life of a process; see :class:`ShardStore`.

    Args:
        root (str): Address of the folder.
        cache (str | None): Folder of copies.
        name (str): Of the JSON.

    Returns:
        Path: The copy.
    """
    return ShardStore(root, cache).fetch_annotations(name)


class ShardStore:
    """Copies of shards of a server, of which those used last stay.

    Processes of a machine share the folder: one fetches a shard while the others wait.

    Args:
        root (str): Address of the folder, as ``fsspec`` reads it: ``https://``, ``s3://``, ...
        cache (str | None): Folder of copies of any server; None takes ``MMPANOPTIC_HOME/shards``.
        limit (int): Bytes that the shards of this address may take.

    Attributes:
        folder (Path): Where those of this address lie.

    Raises:
        ImportError: If ``fsspec`` is not installed.
    """

    def __init__(self, root: str, cache: str | None = None, limit: int = 100 * 10**9) -> None:
        self.root = root.rstrip("/")
        name = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        self.folder = Path(cache or home_folder() / "shards") / name
        self.limit = limit
        _fsspec()
        self.folder.mkdir(parents=True, exist_ok=True)

    def fetch_annotations(self, name: str) -> Path:
        """Fetch the JSON anew, and drop the copies of shards that are others by now.

        Args:
            name (str): Its name below the root.

        Returns:
            Path: The copy.

        Raises:
            PanopticFormatError: If it is not there or lists no shards.
        """
        path = self.folder / name
        with self._alone(path):
            before = {shard.name: shard for shard in read_shards(path)} if path.exists() else {}
            with atomic_write(path) as temporary:
                self._copy(name, temporary, _LARGEST_JSON)
                for shard in read_shards(temporary):
                    if before.get(shard.name) != shard:
                        (self.folder / shard.name).unlink(missing_ok=True)
        return path

    def fetch(self, shard: Shard) -> Path:
        """Return the copy of a shard, after fetching it where it is not there.

        Args:
            shard (Shard): Which.

        Returns:
            Path: The copy.

        Raises:
            PanopticFormatError: If it cannot be had, or is not what the JSON describes.
        """
        path = self.folder / shard.name
        try:
            state = path.stat()
        except FileNotFoundError:
            with self._alone(path):
                if not path.exists():  # no other process was faster
                    self._make_room(shard.bytes)
                    self._fetch(shard, path)
            state = path.stat()
        with suppress(OSError):  # those used last stay; the time of change tells archives apart
            os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))
        return path

    def _fetch(self, shard: Shard, path: Path) -> None:
        with atomic_write(path, shard.bytes) as temporary:
            size, digest = self._copy(shard.name, temporary, shard.bytes)
            if (size, digest) != (shard.bytes, shard.sha256):
                detail = (
                    f"it came with {size:,} bytes and the hash {digest[:12]}..., the JSON says "
                    f"{shard.bytes:,} and {shard.sha256[:12]}..."
                )
                raise format_error("damaged_shard", detail, f"{self.root}/{shard.name}")

    def _copy(self, name: str, target: Path, most: int) -> tuple[int, str]:
        """Copy a file, in several attempts; return its size and hash."""
        address = f"{self.root}/{name}"
        for attempt in range(ATTEMPTS):
            try:
                return _copy_once(address, target, most)
            except FileNotFoundError as error:
                raise format_error("missing_file", "there is no such file", address) from error
            except WriteError:
                raise
            except Exception as error:  # each kind of storage has its own
                if attempt + 1 == ATTEMPTS:
                    detail = f"cannot be read in {ATTEMPTS} attempts: {error!r}"
                    raise format_error("missing_file", detail, address) from error
            time.sleep(PAUSE * 2**attempt)
        raise AssertionError

    def _make_room(self, needed: int) -> None:
        """Remove the shards that were not used for the longest time."""
        found = []
        for path in self.folder.glob("[!.]*.tar"):
            with suppress(FileNotFoundError):  # another process makes room, too
                state = path.stat()
                found.append((state.st_atime_ns, state.st_size, path))
        used = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if used + needed <= self.limit:
                return
            path.unlink(missing_ok=True)
            used -= size

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Keep other processes from fetching a file; remove what a killed one left of it."""
        with FileLock(self.folder / f".{path.name}.lock"):
            for left in self.folder.glob(f".{path.stem}.*{path.suffix}"):
                left.unlink()
            yield


def _copy_once(address: str, target: Path, most: int) -> tuple[int, str]:
    """Copy a file; one that is longer than it may be is given up after the first byte too many."""
    size, digest = 0, hashlib.sha256()
    with _fsspec().open(address, "rb") as source, target.open("wb") as copy:
        while size <= most and (chunk := source.read(_CHUNK)):
            with explained_writes(target):
                size += copy.write(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def _fsspec() -> ModuleType:
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(
            "shards of a server need the package fsspec: pip install 'mmpanoptic[shards]'"
        ) from error
    return fsspec
