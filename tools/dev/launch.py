#!/usr/bin/env python
"""Start the processes of a run with torchrun, again where one is lost; its end is one line.

Behind the arguments of train.py, ``--max-restarts N`` lets a run whose process or machine died go
on from its newest checkpoint, at most N times; it implies ``--resume``.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
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


def take_restarts(settings: argparse.Namespace) -> int:
    """Move ``--max-restarts`` from the arguments of training to those of torchrun.

    Args:
        settings (Namespace): Of torchrun; changed in place.

    Returns:
        int: How often the run may start again.

    Raises:
        UsageError: If the program cannot go on where it was, or is to go on from elsewhere.
    """
    restarts, others = int(settings.max_restarts), []
    words = iter(settings.training_script_args)
    for word in words:
        name, has_value, value = word.partition("=")
        if name != "--max-restarts":
            others.append(word)
            continue
        try:
            restarts = cli.at_least(0)(value if has_value else next(words, ""))
        except argparse.ArgumentTypeError as error:
            raise cli.UsageError(f"--max-restarts {error}") from error
    if restarts:
        if Path(settings.training_script).name != "train.py":
            raise cli.UsageError("--max-restarts is for trainings, which go on where they were")
        place = others.index("--resume") if "--resume" in others else None
        if place is None:
            others.append("--resume")
        elif any(not word.startswith("-") for word in others[place + 1 : place + 2]):
            raise cli.UsageError(
                "--max-restarts goes on from the newest checkpoint of the work folder; leave out "
                f"{others[place + 1]} behind --resume, or put that file into the work folder"
            )
    settings.max_restarts, settings.training_script_args = restarts, others
    return restarts


class RestartNotes(logging.Handler):
    """Say on the standard error that torchrun starts the processes of this machine again."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line where torchrun logs one about a restart."""
        if not str(record.msg).endswith("will restart worker group"):
            return
        if "new nodes" in str(record.msg):
            why = "a machine has come back"
        else:
            left = int(record.args[2]) - 1  # type: ignore[index, arg-type]
            why = f"a process failed ({left} restart{'s' * (left != 1)} left)"
        cli._say(f"{why}: the run starts again from its newest checkpoint")


def describe(rank: int, failure: ProcessFailure) -> str:
    """Say how the first process failed."""
    code, pid = failure.exitcode, failure.pid
    if code >= 0:
        return f"rank {rank} (process {pid}) ended first, with status {code}"
    return f"rank {rank} (process {pid}) was ended by {signal.Signals(-code).name}"


def hush() -> None:
    """Leave of torchrun's log what a user must know."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it is said here
    notes = logging.getLogger("torch.distributed.elastic.agent.server.api")
    notes.setLevel(logging.INFO)
    notes.propagate = False
    notes.handlers = [RestartNotes()]


def run(args: argparse.Namespace) -> None:
    """Start the processes and wait for them.

    Raises:
        FileNotFoundError: If there is no such program.
        Failure: If one of the processes failed, or the other machines cannot be reached.
        SystemExit: If a signal ended them; they have got it, too.
    """
    from torch.distributed import run as torchrun

    settings = torchrun.parse_args(args.arguments)
    restarts = take_restarts(settings)
    if not Path(settings.training_script).is_file():
        raise FileNotFoundError(errno.ENOENT, "no such program", settings.training_script)
    hush()
    os.environ["MMPANOPTIC_LAUNCHER"] = str(os.getpid())  # for engine.distributed
    if settings.nnodes != "1":
        # torchrun's own store names keys by the restarts of each machine: one that has come back,
        # and has had fewer of them, would never meet the others there. Rank 0 opens one instead.
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    while launch(settings, restarts):
        restarts -= 1


def launch(settings: argparse.Namespace, restarts: int) -> bool:
    """Run torchrun once.

    Args:
        settings (Namespace): Its arguments.
        restarts (int): How often it may begin again without the machine that held all together.

    Returns:
        bool: Whether it is to begin again.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import api as rendezvous

    try:
        torchrun.run(settings)
    except ChildFailedError as error:
        raise cli.Failure(describe(*error.get_first_failure())) from error
    except SignalException as stop:
        raise SystemExit(128 + stop.sigval) from stop
    except rendezvous.RendezvousClosedError as error:
        raise cli.Failure(
            "the run has ended on another machine; its message stands there"
        ) from error
    except rendezvous.RendezvousTimeoutError as error:
        raise cli.Failure(
            f"not all of the {settings.nnodes} machines have come within the time; start the same "
            "command on those that are missing (JOIN_TIMEOUT, in seconds, gives them longer)"
        ) from error
    except rendezvous.RendezvousConnectionError as error:
        first = f"the first machine ({settings.rdzv_endpoint})"
        if not restarts:
            raise cli.Failure(f"{first} cannot be reached; go on with --resume") from error
        cli._say(f"{first} is lost ({restarts - 1} restarts left): waiting for it to come back")
        return True
    return False


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
