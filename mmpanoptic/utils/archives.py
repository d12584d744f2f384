"""Files inside zip and tar archives, read without unpacking.

A path may go through an archive as through a folder: ``data/coco/train2017.zip/train2017/1.jpg``.
Where all of a zip archive lies in one folder, that folder may be left out: ``train2017.zip/1.jpg``.
"""

from __future__ import annotations

import errno
import mmap
import os
import posixpath
import struct
import zipfile
import zlib
from functools import lru_cache
from typing import NoReturn

from .tar_archive import TarArchive

_ZIP, _TAR = ".zip", ".tar"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field
_LOCAL_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1
_LARGE = 64 << 20  # bytes; smaller members may be packed as tightly as they like
_MOST_PACKED = 100  # times; deflate reaches 1000, images and JSON stay far below 100
_BROKEN_TABLE = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error)
_FOREIGN = "__MACOSX/"  # what macOS adds to every archive, beside the content


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file, which may lie in a zip or tar archive.

    Safe in threads and in worker processes, forked or not: no file position is shared.

    Args:
        path: The file, or ``<archive>.zip/<member>`` or ``<archive>.tar/<member>``.

    Returns:
        bytes: The content.

    Raises:
        FileNotFoundError: If there is no such file, archive or member.
        OSError: If the file cannot be read or has no possible name, or the archive is damaged,
            encrypted, compressed otherwise than by deflate, or a bomb.
    """
    parts = split_archive_path(path)
    try:
        if parts is not None:
            return _open(parts[0]).read(parts[1])
        with open(path, "rb") as file:  # a tenth of the steps of Path.read_bytes
            return file.read()
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is such a file, which may lie in a zip or tar archive.

    Args:
        path: The file, or ``<archive>.zip/<member>``.

    Raises:
        OSError: If the archive is damaged.
    """
    parts = split_archive_path(path)
    if parts is None:
        return os.path.isfile(path)
    return os.path.isfile(parts[0]) and parts[1] in _open(parts[0])


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is such a folder, which may be a zip or tar archive or lie in one.

    Args:
        path: A folder, ``<archive>.zip`` or ``<archive>.zip/<folder>``.

    Raises:
        OSError: If the archive is damaged.
    """
    parts = split_archive_path(path)
    if parts is None:
        return os.path.isdir(path)
    return os.path.isfile(parts[0]) and _open(parts[0]).has_folder(parts[1])


def file_stamp(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return size and time of change (ns) of a file, or of the archive in which it lies.

    Args:
        path: The file, or ``<archive>.zip/<member>``.

    Raises:
        OSError: If there is no such file or archive.
    """
    parts = split_archive_path(path)
    stat = os.stat(path if parts is None else parts[0])
    return stat.st_size, stat.st_mtime_ns


def open_archive_of(path: str | os.PathLike[str]) -> bool:
    """Read the table of contents of an archive, so that processes forked later have it.

    Args:
        path: A folder, or ``<archive>.zip``, or a folder in it.

    Returns:
        bool: Whether the path leads to an archive.

    Raises:
        OSError: If it does and the archive is missing or damaged.
    """
    parts = split_archive_path(path)
    if parts is not None:
        _open(parts[0])
    return parts is not None


def split_archive_path(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Divide a path into archive and member.

    Args:
        path: Any path.

    Returns:
        tuple[str, str] | None: Path of the archive and the member's name with ``/``, empty for the
        archive itself; None if no part of the path ends in ``.zip`` or ``.tar``, or if such a part
        is a folder.
    """
    text = os.fspath(path)
    if os.sep != "/":
        text = text.replace(os.sep, "/")
    low = text.lower()
    if _ZIP not in low and _TAR not in low:  # almost always so: cheap for every image that is read
        return None
    parts = text.split("/")
    for count, part in enumerate(parts, 1):
        archive = "/".join(parts[:count])
        if part.lower().endswith((_ZIP, _TAR)) and not os.path.isdir(archive):
            member = posixpath.normpath("/".join(parts[count:]))
            return archive, "" if member == "." else member
    return None


class _ZipArchive:
    """A mapped zip archive and its table of contents."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise
        except (*_BROKEN_TABLE, OSError) as error:
            self._fail(f"the archive {path} is damaged or no zip file ({error}); fetch it again")
        self._entries = {entry.filename: entry for entry in entries}
        own = [name for name in self._entries if not name.startswith(_FOREIGN)]
        top = {name.partition("/")[0] + "/" for name in own}
        self._folder = top.pop() if len(top) == 1 and all("/" in name for name in own) else ""

    def __contains__(self, member: str) -> bool:
        return self._find(member) is not None

    def _find(self, member: str) -> zipfile.ZipInfo | None:
        return self._entries.get(member) or self._entries.get(self._folder + member)

    def has_folder(self, member: str) -> bool:
        prefix = f"{member}/" if member else ""
        starts = (prefix, self._folder + prefix)
        return any(name.startswith(starts) for name in self._entries)

    def read(self, member: str) -> bytes:
        """Return a member's content; missing, encrypted and damaged members raise."""
        entry = self._find(member)
        if entry is None:
            text = f"the archive {self.path} has no member {member!r}"
            if self._entries:
                text += f"; its names are like {next(iter(self._entries))!r}"
            raise FileNotFoundError(errno.ENOENT, text)
        if entry.flag_bits & _ENCRYPTED:
            self._fail(f"{member!r} in {self.path} is encrypted; unpack the archive")
        if entry.file_size > max(_LARGE, _MOST_PACKED * entry.compress_size):
            self._fail(
                f"{member!r} in {self.path} would unpack {entry.compress_size:,} bytes to "
                f"{entry.file_size:,}, as no image does; it is refused"
            )
        data = self._packed(entry)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            data = self._inflate(data, entry)
        elif entry.compress_type != zipfile.ZIP_STORED:
            self._fail(
                f"{member!r} in {self.path} is compressed by another method than deflate "
                f"({entry.compress_type}); pack it again with 'zip -0 -r'"
            )
        if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
            self._fail(f"{member!r} in {self.path} is damaged; fetch the archive again")
        return data

    def _packed(self, entry: zipfile.ZipInfo) -> bytes:
        """Return a member as it lies in the archive; an entry that points elsewhere raises."""
        start = entry.header_offset + _LOCAL_HEADER.size
        header = self._map[entry.header_offset : start]
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_SIGNATURE):
            self._fail(
                f"{entry.filename!r} in {self.path} is damaged: its entry leads to no file; fetch "
                "the archive again"
            )
        _, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        start += name_size + extra_size
        return self._map[start : start + entry.compress_size]

    def _inflate(self, data: bytes, entry: zipfile.ZipInfo) -> bytes:
        try:  # bounded: a forged entry does not fill the memory
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked = unpacker.decompress(data, max(1, entry.file_size))
            more = unpacker.decompress(unpacker.unconsumed_tail, 1)  # also reaches the end mark
        except zlib.error as error:
            self._fail(f"{entry.filename!r} in {self.path} is damaged ({error}); fetch it again")
        if more or not unpacker.eof:
            self._fail(
                f"{entry.filename!r} in {self.path} is damaged: it does not have the declared "
                f"{entry.file_size:,} bytes; fetch it again"
            )
        return unpacked

    def _fail(self, text: str) -> NoReturn:
        raise OSError(errno.EIO, text)


def _open(path: str) -> _ZipArchive | TarArchive:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, f"there is no archive {path}") from None
    return _open_version(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=32)
def _open_version(path: str, size: int, mtime: int) -> _ZipArchive | TarArchive:
    """Open an archive once per version; a changed file is another one."""
    if not size:
        raise OSError(errno.EIO, f"the archive {path} is empty; fetch it again")
    return TarArchive(path) if path.lower().endswith(_TAR) else _ZipArchive(path)
