"""Per-file jobs in several processes: order kept, progress shown, whole files only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .files import explained_writes
from .worker_guard import guard_worker

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

PART_SUFFIX = ".part"
"""Suffix of files that are being written; no reader's pattern matches it."""

_MAX_CHUNK = 16

Tracker = Callable[[Iterable[Any], str, int | None], Iterable[Any]]
_trackers: list[Tracker] = []


def usable_cpus() -> int:
    """Count the CPUs that this process may use, which can be fewer than the host has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def shown_by(tracker: Tracker) -> Iterator[None]:
    """Show the progress of the jobs that run in this block.

    Args:
        tracker (Callable): Takes items, a label and their number, and yields the items again.
    """
    _trackers.append(tracker)
    try:
        yield
    finally:
        _trackers.pop()


def show(items: Iterable[Item], label: str, total: int | None) -> Iterable[Item]:
    """Show how far a loop is as :func:`shown_by` says; outside of it return the items as they are.

    Args:
        items (Iterable): What the loop goes through.
        label (str): Text beside the bar.
        total (int | None): Number of items, if known.

    Returns:
        Iterable: The items.
    """
    return _trackers[-1](items, label, total) if _trackers else items


def run(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    nproc: int = 1,
    label: str | None = None,
) -> Iterator[Result]:
    """Call a function for each item and yield the results in the order of the items.

    Items that are already finished when the run is stopped stay finished, provided that the
    function writes with :func:`write_file`; workers end with their parent, however it ends.

    Args:
        function: Picklable; called once per item.
        items: Picklable items.
        nproc: Number of processes; 1 works in this one.
        label: Text of the progress bar of :func:`shown_by`; without it none is shown.

    Yields:
        Result: What the function returned.

    Raises:
        ValueError: If ``nproc`` is less than 1.
        RuntimeError: If a worker died, as it does when the machine runs out of memory.
    """
    if nproc < 1:
        raise ValueError(f"nproc must be at least 1, got {nproc}")
    if nproc == 1 or len(items) < 2:
        results: Iterator[Result] = map(function, items)
    else:
        results = _run_in_processes(function, items, min(nproc, len(items)))
    # The workers have started: no fork happens while the thread of a bar runs.
    yield from show(results, label, len(items)) if label and items else results


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all, without waiting for the disk.

    For the many small files of a conversion, where one flush each would cost more than the work;
    :func:`mmpanoptic.utils.atomic_write` flushes. After a power cut a file may be empty, which
    :func:`is_whole` tells.

    Args:
        path: The file to write; its folder must exist.
        data: The content.

    Raises:
        WriteError: If the disk is full, broken or read-only.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")
    with explained_writes(path, len(data)):
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file that :func:`write_file` wrote is there and not empty."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def remove_parts(folder: str | os.PathLike[str]) -> None:
    """Remove the unfinished files that a killed run left in a folder.

    Files of processes that still run on this machine stay.

    Args:
        folder: Searched without its sub-folders; need not exist.
    """
    for path in Path(folder).glob(f".*{PART_SUFFIX}"):
        owner = path.name[: -len(PART_SUFFIX)].rpartition(".")[2]
        # This process starts a run: whatever carries its number is an older one's.
        if owner.isdigit() and (int(owner) == os.getpid() or not is_running(int(owner))):
            with suppress(FileNotFoundError):
                path.unlink()


def is_running(pid: int) -> bool:
    """Tell whether a process of this machine runs.

    Args:
        pid (int): Its number.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _run_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], nproc: int
) -> Iterator[Result]:
    import multiprocessing  # here: a command that starts no processes starts sooner without it
    from concurrent.futures import ProcessPoolExecutor

    # A fork starts at once; where the platform has none, a fresh process imports what it needs.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(nproc, context, initializer=_prepare_worker, initargs=(os.getpid(),))
    chunk = max(1, min(_MAX_CHUNK, len(items) // (4 * nproc)))
    return _collect(pool, pool.map(function, items, chunksize=chunk))


def _collect(pool: ProcessPoolExecutor, results: Iterator[Result]) -> Iterator[Result]:
    from concurrent.futures.process import BrokenProcessPool

    try:
        yield from results
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died, probably for want of memory; run the command again with a "
            "smaller --nproc: what is finished stays finished"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker(parent: int) -> None:
    import cv2

    # OpenCV's threads do not survive a fork, and there is one process per core anyway.
    cv2.setNumThreads(0)
    guard_worker(parent)
