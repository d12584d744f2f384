"""Count the operations and parameters of a model, part by part."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.apis.complexity import Part

EXAMPLES = """
  %(prog)s CONFIG --size 1024 2048
  %(prog)s CONFIG --size 128 192 --depth 2 --json flops.json

Counted are convolutions and matrix products of the network (without pre- and post-processing), a
multiply-add as two operations. Papers often give multiply-adds: half of it. The heads of a
two-stage model work on as many boxes as the network finds in an empty image.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.take("size", old=["--shape"], required=True)
    parser.add("--depth", type=cli.at_least(1), default=1, help="levels of parts (default 1)")
    parser.take("device", "json", "cfg_options")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Count."""
    from mmpanoptic.apis.complexity import count_operations

    model = cli.load_model(args)
    parts = count_operations(model, tuple(args.size), args.depth)
    yield format_parts(parts)
    yield f"input 1 x 3 x {args.size[0]} x {args.size[1]}; a multiply-add counts as 2 operations"
    rows = [{"part": name, "parameters": own, "flops": flops} for name, own, flops in parts]
    cli.save_json(args, {"size": args.size, "parts": rows})


def format_parts(parts: Sequence[Part]) -> str:
    """Lay the figures out as a table."""
    width = max(len(part.name) for part in parts)
    lines = [f"{'part':{width}}  {'parameters':>12}  {'GFLOPs':>10}"]
    lines += [
        f"{part.name:{width}}  {part.parameters:>12,}  {part.flops / 1e9:>10.3f}" for part in parts
    ]
    return "\n".join(lines)


main = cli.Command(build_parser, run)
