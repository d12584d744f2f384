"""Atomic writes: a file is either the old one or the whole new one, never half of it."""

from __future__ import annotations

import json
import os
import posixpath
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_UMASK_LOCK = threading.Lock()


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path whose content replaces ``path`` when the block succeeds.

    The temporary file lies in the same folder and keeps the suffix (writers choose the format by
    it). On success it is flushed to the disk and renamed; on an error it is removed and ``path``
    stays as it was. Missing parent folders are made.

    Args:
        path: The file to write.

    Yields:
        Path: Write here.
    """
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
    text = json.dumps(content, indent=indent)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON; the message names the file and the place.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a valid JSON file: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not a valid JSON file: it is nested too deep") from error


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
    """Flush a file or folder to the disk; folders cannot be synced on every platform."""
    flags = os.O_RDONLY
    try:
        handle = os.open(path, flags)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
