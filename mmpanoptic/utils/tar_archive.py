"""Files inside uncompressed tar archives, read by their place without unpacking."""

from __future__ import annotations

import errno
import os
import tarfile
from typing import NoReturn

_END_MARK = 512  # bytes; tar ends with two such blocks of zeros, of which some programs write one


class TarArchive:
    """A tar archive and its table of contents.

    Compressed archives are refused: a member of one can only be reached through all before it.

    Args:
        path (str): The archive.

    Raises:
        FileNotFoundError: If it is not there.
        OSError: If it is no uncompressed tar archive, or ends too early.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        size, end = os.stat(path).st_size, 0
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isreg() and not member.issparse():
                        self._places[member.name] = (member.offset_data, member.size)
                    end = member.offset_data + member.size
                    if end > size:
                        self._fail(f"the archive {path} ends inside {member.name!r}")
        except tarfile.TarError as error:
            self._fail(f"the archive {path} is damaged or no uncompressed tar file ({error})")
        if size < end + _END_MARK or any(self._bytes(size - _END_MARK, _END_MARK)):
            self._fail(f"the archive {path} has no end; it was cut off")

    def __contains__(self, member: str) -> bool:
        return member in self._places

    def has_folder(self, member: str) -> bool:
        """Tell whether members lie in a folder; an empty name is the archive itself."""
        prefix = f"{member}/" if member else ""
        return any(name.startswith(prefix) for name in self._places)

    def read(self, member: str) -> bytes:
        """Return a member's content.

        Tar keeps no sums of contents: what is read is as whole as the archive is.

        Raises:
            FileNotFoundError: If there is no such member, or the archive has gone.
            OSError: If the archive has become shorter.
        """
        try:
            start, size = self._places[member]
        except KeyError:
            text = f"the archive {self.path} has no member {member!r}"
            if self._places:
                text += f"; its names are like {next(iter(self._places))!r}"
            raise FileNotFoundError(errno.ENOENT, text) from None
        data = self._bytes(start, size)
        if len(data) != size:
            self._fail(f"the archive {self.path} ends inside {member!r}")
        return data

    def _bytes(self, start: int, size: int) -> bytes:
        # Opened each time: no position is shared by threads and processes, and nothing is mapped,
        # so that the process does not seem to grow by what it has read.
        with open(self.path, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(size)

    def _fail(self, text: str) -> NoReturn:
        raise OSError(errno.EIO, f"{text}; fetch it again")
