"""A process with a time limit: what hangs, fails or crashes is told, and nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .files import read_json


class Outcome(NamedTuple):
    """How a part went.

    Attributes:
        part (str): Its name.
        status (str): "passed", "failed", "crashed", "timeout", or "skipped" if it was not begun.
        seconds (float): What it took.
        words (str): The end of what it said, unless it passed.
        figures (list): What it measured, also if it did not come to its end.
    """

    part: str
    status: str
    seconds: float
    words: str
    figures: list[dict[str, Any]]


def run_part(
    part: str, command: Sequence[str], folder: Path, limit: float, cwd: Path | None = None
) -> Outcome:
    """Run a command for at most so many seconds; end all its processes.

    Args:
        part (str): Its name. What it says goes to ``PART.log``; figures that it writes are read
            from ``PART.json``.
        command (Sequence[str]): What to run.
        folder (Path): Of the two files.
        limit (float): Seconds.
        cwd (Path | None): Folder to run in.

    Returns:
        Outcome: How it went.
    """
    figures = folder / f"{part}.json"
    figures.unlink(missing_ok=True)
    log = folder / f"{part}.log"
    start = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(  # noqa: S603 - what the caller asks for
            command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    status = {None: "timeout", 0: "passed"}.get(code, "crashed" if code and code < 0 else "failed")
    words = "" if code == 0 else log.read_text("utf-8", "replace")[-2000:]
    seconds = time.monotonic() - start
    return Outcome(part, status, seconds, words, read_json(figures) if figures.exists() else [])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
