"""Worker processes of data loaders."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

from ..utils.worker_guard import guard_worker


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
