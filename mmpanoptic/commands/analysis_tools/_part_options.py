"""What the commands share that evaluate some of the images and keep what these contribute."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.evaluation.parts import EvaluationPart, ImageChoice


def add_part_options(parser: cli.Parser) -> None:
    """Let a command evaluate a part."""
    parser.add(
        "--part",
        type=_choice,
        metavar="K/N",
        help="evaluate the K-th of N stretches of the ground truth, or the images that a text "
        "file names, an id a line",
    )
    parser.add(
        "--save-part",
        type=Path,
        metavar="FILE",
        help="keep what the images contribute; eval_merge adds such files to the bits of the whole",
    )


def _choice(text: str) -> ImageChoice:
    try:
        return ImageChoice.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def save_part(args: argparse.Namespace, make: Callable[[], EvaluationPart]) -> Iterator[str]:
    """Write the file of ``--save-part``, and say how much of the whole it is.

    Args:
        args (Namespace): The command's.
        make (Callable): Makes the part.
    """
    if args.save_part is None and args.part is None:
        return
    part = make()
    name = "" if args.part is None else f"part {args.part.text}: "
    yield f"{name}{len(part.images)} of {part.total} images"
    if args.save_part is not None:
        part.write(args.save_part)
        yield f"wrote {args.save_part}; eval_merge adds it to other parts"
