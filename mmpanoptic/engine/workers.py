"""Worker processes of data loaders."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..utils.threads import processor_share
from ..utils.worker_guard import guard_worker

_PACKAGE = str(Path(__file__).resolve().parents[1])
_CAUGHT = re.compile(r"Caught (\w+) in DataLoader worker process (\d+)\.\n")
_DIED = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)")


class WorkerError(RuntimeError):
    """A worker process of a data loader has died."""


def count_workers(asked: int) -> int:
    """Bound the worker processes of a loader: more than processors only take memory and turns.

    Args:
        asked (int): Number of the config; the samples do not depend on it.

    Returns:
        int: At most one for each processor of this process.
    """
    return min(asked, processor_share())


@contextmanager
def clear_worker_errors() -> Iterator[None]:
    """Say what went wrong in a worker process in the first line, not below its traceback.

    torch raises the exceptions of workers again with the traceback as their message. What our code
    raises with a message for the user stays that message; others keep the traceback behind it.

    Raises:
        WorkerError: If a worker was killed.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        died, caught = _DIED.search(text), _CAUGHT.match(text)
        if died is not None:
            raise WorkerError(
                f"the data loader's worker process {died[1]} has died ({died[2].rstrip('. ')}): "
                "mostly for want of memory or of space in /dev/shm. Lower num_workers; "
                "num_workers=0 loads in the main process and shows an error there"
            ) from error
        if caught is None:
            raise
        raise _rebuilt(error, text, int(caught[2])) from error


def _rebuilt(error: Exception, text: str, worker: int) -> Exception:
    """Make an exception of the same class with a clear first line."""
    head, _, tail = text.rpartition('\n  File "')
    message = re.search(r"^(?! ).+(?:\n.*)*", tail.partition("\n")[2], re.MULTILINE)
    if not head or message is None:
        return error
    line = message[0].strip()
    file = tail.partition('"')[0]
    foreseen = file.startswith(_PACKAGE) and isinstance(error, ValueError | RuntimeError | OSError)
    if foreseen:
        return type(error)(line.partition(": ")[2] or line)
    return type(error)(f"{line} (in worker process {worker} of a data loader)\n{text}")


class GuardedWorker:
    """Tie a worker to the training process, then go on as the loader wants.

    See :func:`mmpanoptic.utils.worker_guard.guard_worker`.

    Args:
        then (Callable | None): The loader's own ``worker_init_fn``.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then
        self.owner = os.getpid()

    def __call__(self, worker_id: int) -> None:
        """Prepare the worker in which this is called.

        Args:
            worker_id (int): Number of the worker.
        """
        served = multiprocessing.get_start_method() == "forkserver"
        guard_worker(os.getppid() if served else self.owner)
        if self.then is not None:
            self.then(worker_id)
