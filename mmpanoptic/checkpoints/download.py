"""Download of one file into the cache: whole, checked, once, whatever the connection does."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import HTTPRedirectHandler, Request, build_opener
from zipfile import BadZipFile, ZipFile

from filelock import BaseFileLock, FileLock, SoftFileLock
from mmengine.logging import print_log

from mmpanoptic.utils import jobs
from mmpanoptic.utils.files import home_folder, write_json

from .errors import CheckpointError, DamagedCheckpointError
from .reading import format_of

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""
ATTEMPTS = 5
"""Connections in a row that bring nothing before a download is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; each further one waits twice as long."""
CHUNK = 1 << 20
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""HTTP states after which another attempt may succeed."""
_OWN_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG}


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server and its place in the cache.

    Attributes:
        name (str): What messages call it: an id or an address.
        urls (tuple[str, ...]): Addresses, tried in this order; none if it comes by hand only.
        path (Path): Where it lies after the download.
        size (int | None): Bytes, if known.
        sha256 (str | None): Hash in hexadecimal digits, or the beginning of it.
        md5 (str | None): The same.
        by_hand (str): What to do if there is no address.
    """

    name: str
    urls: tuple[str, ...]
    path: Path
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    by_hand: str = ""


def cache_folder() -> Path:
    """Return the folder for downloads: ``MMPANOPTIC_HOME``, or one in the platform's cache."""
    return home_folder() / "weights"


def fetch(remote: RemoteFile, again: bool = False) -> Path:
    """Return the local file, after a download if it is not in the cache.

    Of several processes one downloads and the others wait. A file in the cache is hashed if its
    size or time of change is not as recorded; one that was put there by hand is checked as a
    download is.

    Args:
        remote (RemoteFile): What to fetch.
        again (bool): Download even if the file is there.

    Returns:
        Path: The file.

    Raises:
        CheckpointError: If it is neither there nor can be had; the message says what to do.
        DamagedCheckpointError: If the file in the cache is not the published one.
    """
    if remote.path.exists() and not again:
        check_cached(remote)
        return remote.path
    if not remote.urls or os.environ.get("MMPANOPTIC_OFFLINE", "0") not in ("", "0"):
        raise CheckpointError(_ask_for_hand(remote))
    with lock(remote.path, f"downloads {remote.name}"):
        if remote.path.exists() and not again:  # another process was faster
            check_cached(remote)
            return remote.path
        problems = []
        for url in remote.urls:
            try:
                _download(url, remote)
                return remote.path
            except CheckpointError as error:
                problems.append(str(error))
    raise CheckpointError(
        f"{remote.name} cannot be downloaded: {'; '.join(problems)}. {_place_it(remote)}"
    )


def check_cached(remote: RemoteFile, completely: bool = False) -> dict[str, Any]:
    """Compare a file in the cache with what is known of it.

    Args:
        remote (RemoteFile): The file.
        completely (bool): Hash it even if size and time of change are as recorded.

    Returns:
        dict: ``size``, ``sha256``, ``md5``, ``mtime_ns`` and ``url``, None if it came by hand.

    Raises:
        DamagedCheckpointError: If it is another one.
    """
    state = remote.path.stat()
    record = _read_record(remote.path)
    same = record.get("size") == state.st_size and record.get("mtime_ns") == state.st_mtime_ns
    if completely or not same or _complaint(remote, record):
        known = record.get("sha256")
        found = {**_hash(remote.path), "mtime_ns": state.st_mtime_ns, "url": record.get("url")}
        complaint = _complaint(remote, found)
        if not complaint and known and not found["sha256"].startswith(known):
            complaint = f"its sha256 was {known} when it came and is {found['sha256']}"
        if complaint := complaint or _wrong_content(remote.path):
            raise DamagedCheckpointError(
                f"{remote.path} is not {remote.name}: {complaint}. Delete it, or download it again "
                f"with tools/weights.py fetch {remote.name} --again"
            )
        record = found
        with suppress(OSError):  # a cache that others have filled may be read-only
            write_json(_record_path(remote.path), record)
    return record


def check_address(url: str) -> None:
    """Refuse addresses whose content anybody on the way could exchange.

    Raises:
        CheckpointError: If the address is not ``https://`` (or ``http://`` on this machine).
    """
    parts = urlparse(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise CheckpointError(
        f"{url} is not loaded: only https:// addresses are. Download the file yourself and give "
        "its path"
    )


class _Redirects(HTTPRedirectHandler):
    """Follow redirects to safe addresses, and keep what Hugging Face tells of a file on the way."""

    def __init__(self) -> None:
        self.linked: dict[str, str] = {}

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        check_address(newurl)
        for name in ("X-Linked-Size", "X-Linked-Etag"):
            if headers.get(name):
                self.linked[name] = headers[name].strip('"')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Part:
    """The unfinished file: its bytes so far and which version of the remote file they are of."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self.resumed = False

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """Return what the server called the version, if the bytes are from this address."""
        note = _read_json(self._note)
        return note.get("validator") if note.get("url") == url else None

    def begin(self, url: str, validator: str | None, keep: bool) -> None:
        self.resumed = keep and self.size > 0
        if not keep:
            self.clear()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._note, {"url": url, "validator": validator})

    def clear(self) -> None:
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)


def _download(url: str, remote: RemoteFile) -> None:
    """Download from one address with as many connections as it takes."""
    check_address(url)
    part = _Part(remote.path)
    failures, is_second = 0, False
    while True:
        before = part.size
        try:
            expected = _transfer(url, remote, part)
            complaint = _complaint(expected, _hash(part.path)) or _wrong_content(part.path)
            if not complaint:
                break
            part.clear()
            if is_second or not part.resumed:
                raise CheckpointError(f"{url} gave another file: {complaint}; it was not kept")
            is_second = True  # the server may have exchanged the file between two connections
        except (OSError, HTTPException) as error:  # HTTPError is an OSError
            _raise_if_hopeless(url, remote, error)
            failures = 0 if part.size > before else failures + 1
            if failures >= ATTEMPTS:
                kept = f"; {part.size} bytes are kept, the next try goes on there" * bool(part.size)
                raise CheckpointError(f"{url}: {error or type(error).__name__}{kept}") from error
            if failures:
                time.sleep(PAUSE * 2 ** (failures - 1))
    digests = _hash(part.path)
    part.finish(remote.path)
    write_json(
        _record_path(remote.path),
        {**digests, "mtime_ns": remote.path.stat().st_mtime_ns, "url": url},
    )


def _transfer(url: str, remote: RemoteFile, part: _Part) -> RemoteFile:
    """Receive what is missing of a file; return what is known of the whole now."""
    headers = {"User-Agent": "mmpanoptic", "Accept-Encoding": "identity"}
    validator = part.validator(url)
    if part.size and (validator or remote.sha256 or remote.md5):
        headers["Range"] = f"bytes={part.size}-"
        if validator:
            headers["If-Range"] = validator
    redirects = _Redirects()
    try:
        response = build_opener(redirects).open(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310 - checked above
    except HTTPError as error:
        if error.code != 416:
            raise
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if whole and int(whole[1]) == part.size:
            return remote
        part.clear()
        raise ConnectionError("the server refused to go on; starting anew") from error
    with response:
        start, total = _extent(response, part)
        expected = _expect(remote, redirects.linked, total)
        if total is not None and expected.size not in (None, total):
            raise CheckpointError(f"{url} has {total} bytes, not {expected.size}: another file")
        _check_room(remote.path, (total or 0) - start)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        weak = version is None or version.startswith("W/")
        part.begin(url, None if weak else version, keep=start > 0)
        _store(response, url, remote, part, total)
    if total is not None and part.size < total:
        raise ConnectionError(f"the connection ended after {part.size} of {total} bytes")
    return expected


def _store(response: Any, url: str, remote: RemoteFile, part: _Part, total: int | None) -> None:
    """Append the body of an answer to the part, shown as a number of megabytes."""
    start = part.size
    size = "" if total is None else f" ({total / 1e6:.0f} MB)"
    print_log(f"downloading {url}{size} to {remote.path}", "current")
    chunks = iter(lambda: response.read(CHUNK), b"")
    count = None if total is None else -(-(total - start) // CHUNK)
    limit = total or remote.size
    wrong = None
    with open(part.path, "ab") as file:
        for chunk in jobs.show(chunks, remote.path.name, count):
            if not file.tell() and _is_page(chunk):
                wrong = _describe_page(url, chunk)
            elif limit and file.tell() + len(chunk) > limit:
                wrong = f"{url} gives more than {limit} bytes: another file"
            if wrong:
                break
            file.write(chunk)
    if wrong:
        part.clear()
        raise CheckpointError(wrong)


def _extent(response: Any, part: _Part) -> tuple[int, int | None]:
    """Tell with which byte an answer begins, and how many the whole file has."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != part.size:
        part.clear()
        raise ConnectionError("the server went on at the wrong place; starting anew")
    return part.size, None if match[2] == "*" else int(match[2])


def _expect(remote: RemoteFile, linked: dict[str, str], total: int | None) -> RemoteFile:
    """Add what the server tells of a file to what is known of it."""
    size = remote.size or (int(linked["X-Linked-Size"]) if "X-Linked-Size" in linked else None)
    etag = linked.get("X-Linked-Etag", "")
    sha256 = remote.sha256 or (etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None)
    return RemoteFile(remote.name, remote.urls, remote.path, size or total, sha256, remote.md5)


def _complaint(expected: RemoteFile, found: dict[str, Any]) -> str | None:
    if not found:
        return "nothing is recorded"
    if expected.size is not None and found["size"] != expected.size:
        return f"it has {found['size']} bytes instead of {expected.size}"
    for kind in ("sha256", "md5"):
        wanted = getattr(expected, kind)
        if wanted and not found[kind].startswith(wanted):
            return f"its {kind} is {found[kind][: max(len(wanted), 16)]} instead of {wanted}"
    return None


def _wrong_content(path: Path) -> str | None:
    """Find what shows without a hash that a file is no whole file of weights."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
        file.seek(max(os.path.getsize(path) - 1, 0))
        last = file.read(1)
    if not head:
        return "it is empty"
    if _is_page(head):
        return _describe_page("it", head)
    kind = format_of(path)
    if kind == "unknown":
        return f"it begins with {head[:12]!r}, as no file of weights does"
    if kind == "pickle" and last != b".":
        return "it is cut off"
    if kind == "safetensors" and not _is_whole_safetensors(path, head):
        return "it is cut off"
    if kind == "zip":
        try:
            with ZipFile(path) as archive:
                bad = archive.testzip()
        except (BadZipFile, OSError, EOFError):
            return "it is cut off"
        return f"the checksum of its record {bad} is wrong" if bad else None
    return None


def _is_whole_safetensors(path: Path, head: bytes) -> bool:
    length = int.from_bytes(head[:8], "little")
    with open(path, "rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError):
            return False
    return os.path.getsize(path) == 8 + length + max(ends, default=0)


def _is_page(head: bytes) -> bool:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    return text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def _describe_page(url: str, content: bytes) -> str:
    title = re.search(rb"<title[^>]*>(.*?)</title>", content, re.IGNORECASE | re.DOTALL)
    words = title[1].decode("utf-8", "replace").split() if title else []
    named = f' "{" ".join(words)[:80]}"' if words else ""
    return f"{url} is a web page{named} instead of a file (a quota, a login or a dead link?)"


def _raise_if_hopeless(url: str, remote: RemoteFile, error: Exception) -> None:
    """Raise for errors that another attempt cannot mend."""
    if isinstance(error, HTTPError):
        if error.code not in _AGAIN:
            raise CheckpointError(f"{url}: {error.code} {error.reason}") from error
        return
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise CheckpointError(
            f"{url}: the server's certificate is not accepted ({cause.verify_message}); behind a "
            "proxy that reads along, name its certificate in SSL_CERT_FILE"
        ) from error
    if isinstance(error, OSError) and error.errno in _OWN_FAULTS:
        raise CheckpointError(
            f"cannot write to {remote.path.parent}: {error.strerror}; make room, or name another "
            "folder in MMPANOPTIC_HOME"
        ) from error


def _check_room(path: Path, needed: int) -> None:
    folder = next(parent for parent in path.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"{path.name} needs {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB left; "
            "make room, or name another folder in MMPANOPTIC_HOME"
        )


@contextmanager
def lock(file: Path, doing: str) -> Iterator[None]:
    """Let one process after the other work on a file of the cache.

    Args:
        file (Path): The file.
        doing (str): What a process that holds the lock does, for messages.

    Raises:
        CheckpointError: If the folder cannot be written.
    """
    path = file.with_name(f"{file.name}.lock")
    held: BaseFileLock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(blocking=False)
    except NotImplementedError:  # a network file system without locks
        held = SoftFileLock(path)
        held.acquire()
    except TimeoutError:
        print_log(f"waiting for another process that {doing}", "current")
        held.acquire()
    except OSError as error:
        raise CheckpointError(
            f"cannot write to {path.parent}: {error.strerror}; name another folder in "
            "MMPANOPTIC_HOME"
        ) from error
    try:
        yield
    finally:
        held.release()


def _ask_for_hand(remote: RemoteFile) -> str:
    why = "MMPANOPTIC_OFFLINE is set" if remote.urls else "no server gives it to programs"
    return f"{remote.name} is not in the cache, and {why}. {_place_it(remote)}"


def _place_it(remote: RemoteFile) -> str:
    source = f"from {' or '.join(remote.urls)}" if remote.urls else remote.by_hand
    known = {"bytes": remote.size, "sha256": remote.sha256, "md5": remote.md5}
    facts = ", ".join(f"{kind} {value}" for kind, value in known.items() if value)
    told = f" ({facts})" if facts else ""
    return f"Download it by hand {source} and put it at {remote.path}{told}"


def _hash(path: Path) -> dict[str, Any]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
    return {
        "size": path.stat().st_size,
        "sha256": sha256.hexdigest(),
        "md5": md5.hexdigest(),
    }


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_record(path: Path) -> dict[str, Any]:
    return _read_json(_record_path(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
