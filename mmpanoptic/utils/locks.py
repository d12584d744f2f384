"""Folders that belong to one process at a time."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import explained_writes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_HELD: set[str] = set()
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class FolderInUseError(RuntimeError):
    """Another process is at work in a folder."""


@contextmanager
def exclusive_folder(folder: str | os.PathLike[str], name: str = ".lock") -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    The lock is a POSIX record lock: it goes with its process, however that ends, and forked
    children do not hold it. (``filelock`` locks with ``flock``, which the workers of a killed
    process hold until they end themselves, so that a restart would be refused.) A second block of
    the same process passes.

    Args:
        folder: The folder; it is made if it is missing.
        name: Name of the lock's file, which stays there.

    Raises:
        FolderInUseError: If another process is in such a block, on this machine or another one
            that shares the folder; the message names it.
        WriteError: If the lock's file cannot be made.
    """
    path = Path(os.path.realpath(folder), name)
    if str(path) in _HELD:  # closing a second handle would give the first one's lock back
        yield
        return
    with explained_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, folder)
        _HELD.add(str(path))
        _sign(handle)
        yield
    finally:
        _HELD.discard(str(path))
        os.close(handle)


def _lock(handle: int, folder: str | os.PathLike[str]) -> None:
    try:
        if fcntl is not None:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _TAKEN:
            raise FolderInUseError(
                f"{os.fspath(folder)} is in use by {_owner(handle)}; wait until it has ended, or "
                "take another folder"
            ) from error
        warnings.warn(  # some network file systems
            f"{os.fspath(folder)} cannot be locked ({error.strerror}); let no second process work "
            "there",
            stacklevel=4,
        )


def _sign(handle: int) -> None:
    """Write down who holds the lock, for the message that others get."""
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(owner).encode(), 0)


def _owner(handle: int) -> str:
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
        return "process {pid} on {host} since {since}".format(**owner)
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        return "another process"
