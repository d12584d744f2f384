"""Evaluations of a search, kept in a folder that several processes and machines may share.

Layout of the folder::

    records/<host>-<process>-<random>.jsonl   one line per evaluation, one file per worker
    claims/<key>.<n>                          n-th worker that took the evaluation <key>

Nothing is ever changed or deleted: records are appended and flushed to the disk, claims are made by
exclusive creation. So no broker or lock is needed, also on network file systems, and a worker that
is killed at any moment leaves a folder with which the others go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from ..utils.jobs import is_running
from .space import Architecture

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a nested plain value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_weights(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class SearchStore:
    """Append-only store of evaluations.

    Args:
        folder: Folder of the search; made if missing. Workers that share it share the work.
        context (Mapping): Everything besides the architecture on which an evaluation depends:
            digest of the weights, data, settings. Evaluations of another context are never used.
        lease_seconds (float): A claim whose owner has given no sign of life for so long is free.
            Owners give one four times in that time. Claims of processes that ended on this
            machine are free at once.

    Raises:
        ValueError: If ``lease_seconds`` is not positive.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        context: Mapping[str, Any],
        lease_seconds: float = 600.0,
    ) -> None:
        if lease_seconds <= 0:
            raise ValueError(f"lease_seconds must be positive, got {lease_seconds}")
        self.folder = Path(folder)
        self.context = dict(context)
        self.lease_seconds = lease_seconds
        self._context_digest = digest_of(self.context)
        worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.worker = _UNSAFE.sub("_", worker)
        for name in ("records", "claims"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._own_file = self.folder / "records" / f"{self.worker}.jsonl"

    def key(self, arch: Architecture) -> str:
        """Name the evaluation of an architecture in this context."""
        return digest_of([list(arch), self._context_digest])[:32]

    # ---- records -----------------------------------------------------------------------------

    def records(self) -> dict[str, dict[str, Any]]:
        """Read all evaluations of this context.

        Returns:
            dict[str, dict]: Record by key. Lines that a killed worker left cut off are passed
            over; where a claim ran out although its owner lived, the first record counts.
        """
        found: dict[str, dict[str, Any]] = {}
        for path in sorted((self.folder / "records").glob("*.jsonl")):
            for record in _read_lines(path):
                if record.get("context") != self._context_digest:
                    continue
                known = found.get(record["key"])
                if known is None or record["finished"] < known["finished"]:
                    found[record["key"]] = record
        return found

    def append(self, arch: Architecture, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record of an evaluation and flush it to the disk.

        Args:
            arch (Architecture): The architecture.
            content (Mapping): Plain values; ``finished`` (seconds) orders double records.

        Returns:
            dict: The record.
        """
        record = {
            "key": self.key(arch),
            "arch": list(arch),
            "context": self._context_digest,
            "host": socket.gethostname(),
            "worker": self.worker,
            **content,
        }
        # One write call; a line that is cut off all the same does not parse.
        line = json.dumps(record) + "\n"
        with open(self._own_file, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return record

    def describe_context(self) -> None:
        """Write the context in readable form beside the records."""
        path = self.folder / f"context-{self._context_digest[:12]}.json"
        if not path.exists():
            text = json.dumps(self.context, indent=1, sort_keys=True, default=str)
            path.write_text(text + "\n", encoding="utf-8")

    # ---- claims ------------------------------------------------------------------------------

    @contextmanager
    def claim(self, arch: Architecture) -> Iterator[bool]:
        """Try to take the evaluation of an architecture.

        Args:
            arch (Architecture): The architecture.

        Yields:
            bool: True if it is this worker's; then the claim is kept alive until the block ends.
            A block that is left by an exception gives the claim back.
        """
        path = self._take(self.key(arch))
        if path is None:
            yield False
            return
        stop = threading.Event()
        keeper = threading.Thread(target=self._keep_alive, args=(path, stop), daemon=True)
        keeper.start()
        try:
            yield True
        except BaseException:
            stop.set()
            keeper.join()
            os.utime(path, (0, 0))  # expired: the next worker need not wait
            raise
        finally:
            stop.set()
            keeper.join()

    def _take(self, key: str) -> Path | None:
        """Create the next claim if there is none, or the last one is expired."""
        claims = list((self.folder / "claims").glob(f"{key}.*"))
        last = max((int(path.suffix[1:]) for path in claims), default=-1)
        if last >= 0 and not self._expired(self.folder / "claims" / f"{key}.{last}"):
            return None
        path = self.folder / "claims" / f"{key}.{last + 1}"
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:  # another worker was faster
            return None
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"worker": self.worker, "place": _place(), "process": os.getpid()}, file)
        return path

    def _expired(self, path: Path) -> bool:
        if _owner_is_gone(path):
            return True
        # The clock of the file system, not ours: machines disagree about the time.
        probe = self.folder / "claims" / f".clock-{self.worker}"
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime > self.lease_seconds

    def _keep_alive(self, path: Path, stop: threading.Event) -> None:
        while not stop.wait(self.lease_seconds / 4):
            try:
                path.touch()
            except OSError as error:  # the network folder is away for a moment; try again
                print_log(f"cannot renew the claim {path}: {error}", "current", level=30)


def _place() -> list[str]:
    """Name where process numbers mean the same: host, boot and the namespace of a container."""
    place = [socket.gethostname()]
    with suppress(OSError):
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(os.readlink("/proc/self/ns/pid"))
    return place


def _owner_is_gone(path: Path) -> bool:
    """Tell whether a claim is of a process that ended here; others have to run out."""
    try:
        claim = json.loads(path.read_text(encoding="utf-8"))
        return claim["place"] == _place() and not is_running(claim["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # not written to the end yet


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and {"key", "arch", "context", "finished"} <= set(record):
                yield record
