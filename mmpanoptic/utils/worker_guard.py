"""Worker processes that end when their parent does, and at nobody else's word."""

from __future__ import annotations

import os
import signal
import threading
import time

_CHECK_SECONDS = 0.5


def guard_worker(parent: int) -> None:
    """Tie this process to the one that works with it.

    When the parent ends, however it does, so does this process within a second; without that, a
    worker that waits until its queue is read would wait for ever. Ctrl-C and SIGTERM reach a whole
    process group or job: from others than the parent they are ignored, since the parent decides
    what becomes of the work, and could not save it without its workers.

    To be called in the main thread, before other threads start.

    Args:
        parent (int): Number of the parent process.
    """
    heard = set()
    if hasattr(signal, "sigtimedwait"):  # not on macOS and Windows: there only the parent's end
        heard = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # one thread hears them, and from whom
    threading.Thread(target=_watch, args=(parent, heard), daemon=True).start()


def _watch(parent: int, heard: set[signal.Signals]) -> None:
    while os.getppid() == parent:
        if not heard:
            time.sleep(_CHECK_SECONDS)
            continue
        found = signal.sigtimedwait(heard, _CHECK_SECONDS)
        if found is not None and found.si_signo == signal.SIGTERM and found.si_pid == parent:
            os._exit(0)  # as torch's workers do; another status is a failure to it
    os._exit(1)
