"""Atomic writes: a file is either the old one or the whole new one, never half of it."""

from __future__ import annotations

import errno
import json
import os
import posixpath
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_UMASK_LOCK = threading.Lock()
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk without room, or of a limit."""
_UNWRITABLE = {
    *FULL,
    *(errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
}
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""A file system that cannot flush says one of these; there is nothing to be done about it."""


class WriteError(OSError):
    """A file cannot be written; the message names it and says what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def explained_writes(path: str | os.PathLike[str], needed: int | None = None) -> Iterator[None]:
    """Turn the errors of writing a file into one that names it.

    Args:
        path: The file that the block writes, under this or another name of the same folder.
        needed: Bytes that it will have, if that is known.

    Raises:
        WriteError: If the disk is full, broken or read-only. Other errors, and those about other
            files, pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, WriteError) or error.errno not in _UNWRITABLE:
            raise
        target = Path(os.path.abspath(path))
        if error.filename is not None and not _is_way_to(target, error.filename):
            raise
        text = f"cannot write {os.fspath(path)}: {os.strerror(error.errno)}"
        if isinstance(error, FileExistsError):
            text = f"cannot write {os.fspath(path)}: {os.fspath(error.filename)} is no folder"
        raise WriteError(error.errno, text + _advice(error.errno, target, needed)) from error


def _is_way_to(target: Path, name: Any) -> bool:
    """Tell whether a name is that of the target, of its temporary file or a folder above it."""
    found = Path(os.path.abspath(os.fsdecode(name)))
    temporary = found.parent == target.parent and found.name.startswith(f".{target.stem}.")
    return temporary or target.is_relative_to(found)


def _advice(code: int, target: Path, needed: int | None) -> str:
    kept = "; what was there before is intact" if target.exists() else ""
    if code not in FULL:
        return f"{kept}. Look at the disk and the permissions, or write to another folder"
    folder = next(folder for folder in target.parents if folder.is_dir())
    room = f"{shutil.disk_usage(folder).free:,} bytes are free"
    if needed is not None:
        room = f"about {needed:,} bytes are needed, {room}"
    return f" ({room}){kept}. Free space, raise the limit, or write to another folder"


@contextmanager
def atomic_write(path: str | os.PathLike[str], needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path whose content replaces ``path`` when the block succeeds.

    The temporary file lies in the same folder and keeps the suffix (writers choose the format by
    it). On success it is flushed to the disk and renamed; on an error it is removed and ``path``
    stays as it was. Missing parent folders are made.

    Args:
        path: The file to write.
        needed: Bytes that it will have, for the message if the disk is full.

    Yields:
        Path: Write here.

    Raises:
        WriteError: If the disk is full, broken or read-only.
    """
    with explained_writes(path, needed):
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _give_default_permissions(temporary)
            _sync(temporary)
            os.replace(temporary, target)
            _sync(target.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = None) -> None:
    """Write JSON atomically.

    Args:
        path: The file to write.
        content: Plain Python values; NumPy scalars are not accepted, since they hide type errors.
        indent: As in :func:`json.dump`.
    """
    data = (json.dumps(content, indent=indent) + "\n").encode()
    with atomic_write(path, len(data)) as temporary:
        temporary.write_bytes(data)


def read_json(
    path: str | os.PathLike[str], object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: The file.
        object_hook: As of :func:`json.loads`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON; the message names the file and the place.
    """
    try:
        return json.loads(Path(path).read_bytes(), object_hook=object_hook)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a valid JSON file: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not a valid JSON file: it is nested too deep") from error


def home_folder() -> Path:
    """Return the folder for what is kept: ``MMPANOPTIC_HOME``, or one in the platform's cache."""
    home = os.environ.get("MMPANOPTIC_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mmpanoptic"))


def is_file_name(name: Any) -> bool:
    """Tell whether a value can name a file: text that is not blank and that a file system holds."""
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a character, as "\ud800" in a JSON
        return False
    return True


def is_inside(name: str) -> bool:
    """Tell whether a relative file name stays inside the folder that it is joined to."""
    name = name.replace("\\", "/")
    if name.startswith("/") or name[1:2] == ":":
        return False
    return posixpath.normpath(name).split("/", 1)[0] != ".."


def refuse_overwriting(
    inputs: Iterable[str | os.PathLike[str]], outputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Refuse to write over what was read.

    Args:
        inputs: Files that are read.
        outputs: Files that will be written.

    Raises:
        ValueError: Naming the first file that is both.
    """
    read = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise ValueError(
                f"{os.fspath(path)} is an input and would be overwritten; write to another place"
            )


def _give_default_permissions(path: Path) -> None:
    """Replace mkstemp's owner-only mode by what ``open`` would have given."""
    with _UMASK_LOCK:  # two threads in between would leave the process without a mask
        mask = os.umask(0)
        os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk.

    Raises:
        OSError: If the disk cannot keep it.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)
