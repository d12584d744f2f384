"""Checkpoint files that tell whether they are whole: a checksum over every byte."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from typing import IO, Any, BinaryIO, cast

import torch

from .errors import CheckpointError, DamagedCheckpointError

# The archive's comment, which is the very end of the file, holds the checksum of all that comes
# before it. Readers of zip files pass over a comment: such a file is an ordinary checkpoint.
_LABEL = b"mmpanoptic sha256 "
_SEAL = re.compile(rb"mmpanoptic sha256 ([0-9a-f]{64})\n")
_SEAL_SIZE = len(_LABEL) + 65
_END_RECORD = b"PK\x05\x06"
_END_SIZE = 22  # of the zip format's last record, whose last two bytes are the comment's size
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began before torch 1.6
_BLOCK = 1 << 22
_OTHER_FILES = (
    (b"version https://git-lfs", "it is the pointer of a file that git-lfs has not fetched"),
    (b"<", "it is a web page or XML, no checkpoint"),
    (b"\0\0\0\0", "it begins with zeros, as after a power cut"),
)


def write_sealed(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Write a checkpoint with a checksum at its end.

    Args:
        checkpoint (dict): Tensors and plain Python values.
        file: Open for writing.

    Raises:
        OSError: If the disk is full or broken.
    """
    writer = _Hashing(file)
    try:
        torch.save(checkpoint, cast("IO[bytes]", writer))  # which writes and flushes alone
    except Exception:
        if writer.error is not None:  # torch says "unexpected pos" in its place
            raise writer.error from None
        raise
    writer.seal()


class _Hashing:
    """A file for ``torch.save``, which writes from the front to the end."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self._digest = hashlib.sha256()
        self._held = b""  # the end of what was written, which the seal changes

    def write(self, data: Any) -> int:
        """Pass bytes on, except the last two."""
        view = memoryview(data)
        end = self._held + bytes(view[-2:])
        try:
            self._pass_on(end[:-2])
            self._pass_on(view[:-2])
        except OSError as error:
            self.error = self.error or error
            raise
        self._held = end[-2:]
        return len(view)

    def flush(self) -> None:
        """Flush; ``torch.save`` asks for it."""
        self.file.flush()

    def seal(self) -> None:
        """Write the size of the comment in place of the last two bytes, and the comment."""
        self._pass_on(_SEAL_SIZE.to_bytes(2, "little"))
        self.file.write(_LABEL + self._digest.hexdigest().encode() + b"\n")

    def _pass_on(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self.file.write(data)


def verify_checkpoint(path: str | os.PathLike[str]) -> None:
    """Check that a file is there and whole.

    Every byte of our own checkpoints is checked. Of other files of ``torch.save`` the checksum of
    every record is; those of torch before 1.6 hold none.

    Raises:
        CheckpointError: If there is no such file, or its records are compressed or overlap, so
            that a small file could fill the memory.
        DamagedCheckpointError: If it is empty, cut off, changed or no file of ``torch.save``.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no checkpoint {os.fspath(path)}; check the path")
    with open(path, "rb") as file:
        head = file.read(64)
        if head.startswith(_LEGACY):
            return
        if not head.startswith(b"PK"):
            raise _damaged(path, _describe_other(head))
        if _is_sealed(file, path):
            return
    _check_records(path)


def _is_sealed(file: BinaryIO, path: str | os.PathLike[str]) -> bool:
    """Compare the checksum of a file that has one.

    Whatever stands behind the archive's last record is ours, or damage.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SEAL_SIZE - _END_SIZE))
    tail = file.read()
    if tail[-_END_SIZE:].startswith(_END_RECORD) and tail.endswith(b"\0\0"):
        return False
    found = _SEAL.fullmatch(tail[-_SEAL_SIZE:])
    if found is None:
        raise _damaged(path, "its end is not that of a checkpoint")
    file.seek(0)
    digest, left = hashlib.sha256(), size - _SEAL_SIZE
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    if digest.hexdigest().encode() != found[1]:
        raise _damaged(path, "its checksum is wrong")
    return True


def _check_records(path: str | os.PathLike[str]) -> None:
    """Check the records of a file that another program wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_bombs(archive, path)
            if not any(name.endswith("/data.pkl") for name in archive.namelist()):
                raise _damaged(path, "it is an archive of other files, none of torch.save")
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if bad:
        raise _damaged(path, f"the checksum of its record {bad} is wrong")


def _refuse_bombs(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> None:
    entries = archive.infolist()
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{os.fspath(path)} is refused: its record {packed[0]} is compressed, which torch.save "
            "never does, and could fill the memory. TorchScript archives are no checkpoints; save "
            "model.state_dict() with torch.save"
        )
    declared, size = sum(entry.file_size for entry in entries), os.path.getsize(path)
    if declared > size:
        raise CheckpointError(
            f"{os.fspath(path)} is refused: its records claim {declared:,} bytes, but the file has "
            f"{size:,}; they overlap or are cut off"
        )


def _describe_other(head: bytes) -> str:
    if not head:
        return "it is empty"
    text = head.lstrip()
    for start, meaning in _OTHER_FILES:
        if text.startswith(start):
            return meaning
    return f"it begins with {head[:12]!r}, as no file of torch.save does"


def _damaged(path: str | os.PathLike[str], reason: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(
        f"{os.fspath(path)} is damaged ({os.path.getsize(path):,} bytes): {reason}. Take another "
        "checkpoint or copy it again"
    )
