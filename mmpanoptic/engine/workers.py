"""Worker processes of data loaders."""

from __future__ import annotations

import os
from collections.abc import Callable


class DetachedWorker:
    """Put a worker into a process group of its own, then go on as the loader wants.

    torchrun ends a run by a signal to the process groups that it started. The workers must not
    get it: the training process would fail for lack of data before :class:`StopSignalHook` has
    saved a checkpoint. Workers end by themselves when the training process does.

    Args:
        then (Callable | None): The loader's own ``worker_init_fn``.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker_id: int) -> None:
        """Prepare the worker in which this is called.

        Args:
            worker_id (int): Number of the worker.
        """
        if hasattr(os, "setpgid"):  # not on Windows
            os.setpgid(0, 0)
        if self.then is not None:
            self.then(worker_id)
