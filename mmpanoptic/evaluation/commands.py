"""What the commands that evaluate files have in common."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.utils import write_json
from mmpanoptic.utils.jobs import usable_cpus


def evaluation_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Make a parser with the options that every such command has.

    Args:
        description: The command's docstring.
        examples: Lines for the end of ``--help``.

    Returns:
        argparse.ArgumentParser: With ``--json``.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all numbers, unrounded, in percent"
    )
    return parser


def add_nproc(parser: argparse.ArgumentParser) -> None:
    """Add ``--nproc``."""
    parser.add_argument(
        "--nproc",
        type=_at_least_one,
        default=usable_cpus(),
        metavar="N",
        help="processes; the result does not depend on them (default: the usable CPUs)",
    )


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def report_evaluation(
    evaluate: Callable[[], tuple[str, dict[str, Any]]], json_file: Path | None
) -> int:
    """Run an evaluation, print its tables and write its numbers.

    Args:
        evaluate: Returns the tables as text and the numbers for the JSON, as fractions.
        json_file: Where numbers go; None writes none.

    Returns:
        int: Exit status: 0, or 1 if the input is wrong.
    """
    begin = time.perf_counter()
    try:
        tables, numbers = evaluate()
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{tables}\nevaluated in {time.perf_counter() - begin:.2f} s\n")
    if json_file is not None:
        write_json(json_file, to_percent(numbers), indent=1)
    return 0


def to_percent(numbers: Any) -> Any:
    """Turn fractions into percentages, floats only, and nan into None, which JSON has.

    Args:
        numbers: Nested dicts and lists.

    Returns:
        Any: The same, in percent.
    """
    if isinstance(numbers, dict):
        return {str(key): to_percent(value) for key, value in numbers.items()}
    if isinstance(numbers, Sequence) and not isinstance(numbers, str):
        return [to_percent(value) for value in numbers]
    if isinstance(numbers, float):
        return None if math.isnan(numbers) else 100 * numbers
    return numbers
