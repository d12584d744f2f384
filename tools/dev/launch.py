#!/usr/bin/env python
"""Start the processes of a run with torchrun; its end is one line instead of a traceback.

Takes torchrun's arguments; dist_*.sh call it.
"""

from __future__ import annotations

import logging
import signal
import sys

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def describe(rank: int, failure: object) -> tuple[str, int]:
    """Say how the first process failed; return the exit status as well."""
    code, pid = failure.exitcode, failure.pid
    if code >= 0:
        return f"rank {rank} (process {pid}) ended first, with status {code}", code or 1
    name = signal.Signals(-code).name
    return f"rank {rank} (process {pid}) was ended by {name}", 128 - code


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it is said below
    try:
        torchrun.run(torchrun.parse_args(argv))
    except ChildFailedError as error:
        text, status = describe(*error.get_first_failure())
        sys.stderr.write(f"error: {text}\n")
        return status
    except SignalException as stop:  # the processes have got it, too
        return 128 + stop.sigval
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
