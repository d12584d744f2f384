"""What a conversion was made from: its options, and path, size, time and hash of every source.

A second run compares with it. Times alone would not do: a source of another folder can be older
than the result of the first one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.archives import file_stamp, read_bytes
from mmpanoptic.utils.jobs import write_file

VERSION = 1
"""Changes with the meaning of the file, so that older ones are not trusted."""

_SUFFIX = ".conversion.json"

Options = Mapping[str, Any]


class Stamp(NamedTuple):
    """State of a file.

    Attributes:
        size (int): Bytes; of an archive, those of the whole.
        mtime (int): Time of the last change in nanoseconds.
        digest (str): Hash of the content.
    """

    size: int
    mtime: int
    digest: str


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Describe the state of a file, which may lie in a zip archive.

    Raises:
        OSError: If it cannot be read.
    """
    size, mtime = file_stamp(path)
    return Stamp(size, mtime, _digest(os.fspath(path), size, mtime))


@lru_cache(maxsize=8)
def _digest(path: str, size: int, mtime: int) -> str:
    """Hash a file once per state: all images share the JSON of their annotations."""
    return hashlib.blake2b(read_bytes(path), digest_size=16).hexdigest()


class Entry(NamedTuple):
    """What is known of one image.

    Attributes:
        sources (dict[str, Stamp]): By path relative to the record's folder.
        balance (dict): See :func:`~mmpanoptic.datasets.converters.balance.image_balance`.
        empty (bool): It has no segment and is in no JSON.
    """

    sources: dict[str, Stamp]
    balance: dict[str, Any]
    empty: bool = False


class ConversionRecord:
    """The record beside a result, and the journal of a run that is not finished.

    Args:
        path: The result: a JSON, or a file of the folder in which results lie.
        options: Plain values that decide the result, with the class list.

    Attributes:
        entries (dict[str, Entry]): By key; empty if there is no record or it was made with other
            options.
        is_ours (bool): Whether an earlier run wrote here, with whatever options.
    """

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path.with_name(path.stem + _SUFFIX)
        self.options = json.loads(json.dumps(options))
        self.entries: dict[str, Entry] = {}
        self._journal = self.path.with_name(f".{path.name}.journal")
        self._lines: list[str] = []
        self._fresh: dict[tuple[str, Stamp], bool] = {}
        self.is_ours = self.path.exists() or self._journal.exists()
        content = _load(self.path)
        if content.get("version") == VERSION and content.get("options") == self.options:
            self.entries = self._read_entries(content)

    def _read_entries(self, content: Mapping[str, Any]) -> dict[str, Entry]:
        stamps = {path: Stamp(*values) for path, values in content["sources"].items()}
        return {
            key: Entry(
                {path: stamps[path] for path in entry["sources"]},
                entry.get("balance", {}),
                entry.get("empty", False),
            )
            for key, entry in content["images"].items()
        }

    def is_fresh(self, entry: Entry | None, sources: tuple[Path, ...]) -> bool:
        """Tell whether an image was made from these sources as they are now.

        Args:
            entry: Of the image; None if nothing is known of it.
            sources: Its files, in order.
        """
        if entry is None or [self.relative(path) for path in sources] != list(entry.sources):
            return False
        return all(map(self._is_same, sources, entry.sources.values()))

    def _is_same(self, path: Path, stamp: Stamp) -> bool:
        key = (os.fspath(path), stamp)
        if key not in self._fresh:
            try:
                now = file_stamp(path)
            except OSError:
                return False
            same = now == (stamp.size, stamp.mtime)
            # A copy or a fresh checkout has new times, but the old content.
            self._fresh[key] = same or (now[0] == stamp.size and stamp_of(path)[2] == stamp.digest)
        return self._fresh[key]

    def relative(self, path: str | os.PathLike[str]) -> str:
        """Name a source by its way from the record, so that both can be moved together."""
        try:
            return Path(os.path.relpath(path, self.path.parent)).as_posix()
        except ValueError:  # another drive
            return Path(os.path.abspath(path)).as_posix()

    def entry_of(
        self, sources: tuple[Path, ...], stamps: list[Stamp], balance: dict, empty: bool
    ) -> Entry:
        """Describe an image that was made."""
        names = [self.relative(path) for path in sources]
        return Entry(dict(zip(names, stamps, strict=True)), balance, empty)

    def write(self, entries: Mapping[str, Entry]) -> None:
        """Replace the record; every source is listed once."""
        stamps: dict[str, Stamp] = {}
        images = {}
        for key, entry in entries.items():
            stamps.update(entry.sources)
            images[key] = {"sources": list(entry.sources)}
            if entry.balance:
                images[key]["balance"] = entry.balance  # type: ignore[assignment]
            if entry.empty:
                images[key]["empty"] = True  # type: ignore[assignment]
        content = {"version": VERSION, "options": self.options, "sources": stamps}
        content["images"] = images
        if json.loads(json.dumps(content)) != _load(self.path):
            write_json(self.path, content)
        self.entries = dict(entries)

    # ---- journal -----------------------------------------------------------------------------

    def read_journal(self) -> dict[str, tuple[Entry, Any]]:
        """Return entry and result by key; what a stopped run cut off is left out."""
        if not self._journal.exists():
            return {}
        lines = self._journal.read_text(encoding="utf-8").split("\n")[:-1]
        if not lines or lines[0] != self._head():
            return {}
        found = {}
        for line in lines[1:]:
            try:
                key, sources, balance, empty, result = json.loads(line)
            except ValueError:
                break
            stamps = {path: Stamp(*values) for path, values in sources.items()}
            found[key] = (Entry(stamps, balance, empty), result)
            self._lines.append(line)
        return found

    def _head(self) -> str:
        return json.dumps({"version": VERSION, "options": self.options})

    @contextmanager
    def journal(self) -> Iterator[ConversionRecord]:
        """Open the journal for :meth:`note`; it stays until :meth:`remove_journal`."""
        text = "\n".join([self._head(), *self._lines])
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._journal, f"{text}\n".encode())
        with self._journal.open("a", encoding="utf-8") as self._file:
            yield self

    def note(self, key: str, entry: Entry, result: Any) -> None:
        """Append a finished image."""
        line = json.dumps([key, entry.sources, entry.balance, entry.empty, result])
        self._file.write(line + "\n")
        self._file.flush()

    def remove_journal(self) -> None:
        """Delete the journal; record and result have it all."""
        self._journal.unlink(missing_ok=True)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
