#!/usr/bin/env python
"""Start the processes of a run with torchrun; its end is one line instead of a traceback."""

from __future__ import annotations

import argparse
import errno
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from mmpanoptic import cli

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

EXAMPLES = """
  %(prog)s -- --standalone --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("arguments", nargs="+", help="of torchrun, behind --")
    return parser


def describe(rank: int, failure: ProcessFailure) -> str:
    """Say how the first process failed."""
    code, pid = failure.exitcode, failure.pid
    if code >= 0:
        return f"rank {rank} (process {pid}) ended first, with status {code}"
    return f"rank {rank} (process {pid}) was ended by {signal.Signals(-code).name}"


def run(args: argparse.Namespace) -> None:
    """Start the processes and wait for them.

    Raises:
        FileNotFoundError: If there is no such program.
        Failure: If one of the processes failed.
        SystemExit: If a signal ended them; they have got it, too.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it is said below
    settings = torchrun.parse_args(args.arguments)
    if not Path(settings.training_script).is_file():
        raise FileNotFoundError(errno.ENOENT, "no such program", settings.training_script)
    try:
        torchrun.run(settings)
    except ChildFailedError as error:
        raise cli.Failure(describe(*error.get_first_failure())) from error
    except SignalException as stop:
        raise SystemExit(128 + stop.sigval) from stop


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
