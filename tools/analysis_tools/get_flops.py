#!/usr/bin/env python
"""Count the operations and parameters of a model, part by part."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmpanoptic.apis import init_model
from mmpanoptic.utils import write_json
from mmpanoptic.utils.cfg_options import ConfigOptions

EXAMPLES = """examples:
  %(prog)s CONFIG --shape 1024 2048
  %(prog)s CONFIG --shape 128 192 --depth 2 --json flops.json

Counted are convolutions and matrix products of the network (without pre- and post-processing), a
multiply-add as two operations. Papers often give multiply-adds: half of it.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add(
        "--shape",
        nargs=2,
        type=int,
        required=True,
        metavar=("H", "W"),
        help="height and width of the network's input",
    )
    add("--depth", type=int, default=1, help="levels of parts to show (default 1)")
    add("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    args = parser.parse_args(argv)
    if min(args.shape) < 1 or args.depth < 1:
        parser.error("--shape and --depth need positive numbers")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print a table; 1 on an error."""
    args = parse_args(argv)
    try:
        model = init_model(args.config, None, "cpu", args.cfg_options)
        rows = count(model, tuple(args.shape), args.depth)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_rows(rows))
    print(f"input 1 x 3 x {args.shape[0]} x {args.shape[1]}; a multiply-add counts as 2 operations")
    if args.json is not None:
        write_json(args.json, {"shape": args.shape, "parts": rows}, indent=1)
    return 0


def count(model: nn.Module, shape: tuple[int, int], depth: int) -> list[dict[str, Any]]:
    """Run the network once and count.

    Args:
        model (nn.Module): With ``forward(inputs, mode="tensor")``.
        shape (tuple[int, int]): Height and width.
        depth (int): Levels of parts.

    Returns:
        list[dict]: ``part``, ``parameters`` and ``flops`` of the model (part "total") and its
        parts.
    """
    counter = FlopCounterMode(display=False, depth=None)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, 3, *shape), mode="tensor")
    root = type(model).__name__
    flops = counter.get_flop_counts()
    rows = []
    for name, module in model.named_modules():
        level = name.count(".") + 1 if name else 0
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if level > depth or not (parameters or not name):
            continue
        key = f"{root}.{name}" if name else root
        operations = int(sum(flops[key].values())) if key in flops else 0
        rows.append({"part": name or "total", "parameters": parameters, "flops": operations})
    return rows


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the figures out as a table."""
    width = max(len(row["part"]) for row in rows)
    lines = [f"{'part':{width}}  {'parameters':>12}  {'GFLOPs':>10}"]
    lines += [
        f"{row['part']:{width}}  {row['parameters']:>12,}  {row['flops'] / 1e9:>10.3f}"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
