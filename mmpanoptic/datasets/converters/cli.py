"""What the converter commands have in common."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable

from mmpanoptic.utils.jobs import default_nproc

RESUME_NOTE = (
    "A run that was stopped goes on where it was: files that are there and newer than their "
    "sources\nstay. The result does not depend on --nproc."
)


def make_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Make the parser of a converter command, with ``--nproc``.

    Args:
        description: The tool's docstring.
        examples: Command lines, ``%(prog)s`` for the program.

    Returns:
        argparse.ArgumentParser: To add arguments to.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples.strip(chr(10))}\n\n{RESUME_NOTE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nproc",
        type=int,
        default=default_nproc(),
        help="number of processes (default: the CPUs this process may use, %(default)s here)",
    )
    return parser


def report(work: Callable[[], Iterable[object]]) -> int:
    """Do the work of a command, print what it did and return the exit status.

    Args:
        work: Returns what to print, one line each; ``ValueError``, ``OSError`` and
            ``RuntimeError`` are reported without a traceback.

    Returns:
        int: 0 on success, 1 on an error, 130 if stopped from the keyboard.
    """
    start = time.perf_counter()
    try:
        for line in work():
            sys.stdout.write(f"{line}\n")
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on where it was\n")
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"took {time.perf_counter() - start:.1f} s\n")
    return 0
