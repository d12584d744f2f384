"""Folders that belong to one process at a time."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import explained_writes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_HELD: set[str] = set()
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_PAUSE = 0.2  # seconds


class FolderInUseError(RuntimeError):
    """Another process is at work in a folder."""


@contextmanager
def exclusive_folder(
    folder: str | os.PathLike[str], name: str = ".lock", wait: bool = False
) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    The lock is a POSIX record lock: it goes with its process, however that ends, and forked
    children do not hold it. (``filelock`` locks with ``flock``, which the workers of a killed
    process hold until they end themselves, so that a restart would be refused.) A second block of
    the same process passes.

    Args:
        folder: The folder; it is made if it is missing.
        name: Name of the lock's file, which goes with the block.
        wait: Say who is at work, and wait until it has ended, instead of raising an error.

    Raises:
        FolderInUseError: If another process is in such a block, on this machine or another one
            that shares the folder, and this one does not wait; the message names it.
        WriteError: If the lock's file cannot be made.
    """
    path = Path(os.path.realpath(folder), name)
    if str(path) in _HELD:  # closing a second handle would give the first one's lock back
        yield
        return
    handle = _lock(path, folder, wait)
    try:
        _HELD.add(str(path))
        _sign(handle)
        yield
    finally:
        _HELD.discard(str(path))
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        os.close(handle)


def _lock(path: Path, folder: str | os.PathLike[str], wait: bool) -> int:
    """Return a handle of the locked file."""
    told = False
    while True:
        with explained_writes(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _try_lock(handle, folder):
                if _is_in_place(handle, path):
                    return handle
            else:
                text = f"{os.fspath(folder)} is in use by {_owner(handle)}"
                if not wait:
                    advice = "wait until it has ended, or take another folder"
                    raise FolderInUseError(f"{text}; {advice}")
                if not told:
                    warnings.warn(f"{text}; waiting until it has ended", stacklevel=4)
                    told = True
                time.sleep(_PAUSE)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_in_place(handle: int, path: Path) -> bool:
    """Tell whether the file is still that of this name; who held it before has removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _try_lock(handle: int, folder: str | os.PathLike[str]) -> bool:
    """Take the lock if nobody has it."""
    try:
        if fcntl is not None:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        warnings.warn(  # some network file systems
            f"{os.fspath(folder)} cannot be locked ({error.strerror}); let no second process work "
            "there",
            stacklevel=5,
        )
    return True


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
