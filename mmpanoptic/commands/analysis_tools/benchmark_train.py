"""Time training steps and inference on made-up images: images per second by switch.

No dataset is needed. Each switch given is measured off and on: nothing, each one alone, all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s CONFIG --channels-last --amp bf16 --compile --iters 20 --json train.json
  %(prog)s CONFIG --size 512 1024 --batch-size 4 --device cuda --amp fp16

A training step is forward, loss, backward and one step of Adam; inference is the network without
post-processing. The first --warmup iterations (and compilation) do not count.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.take("size", default=[512, 1024], help="of the images (default 512 1024)")
    parser.take("batch_size", default=2)
    parser.add(
        "--channels-last", action="store_true", help="switch: weights and images channels last"
    )
    parser.add("--amp", choices=("fp16", "bf16"), help="switch: autocast")
    parser.add("--compile", action="store_true", help="switch: torch.compile of backbone and heads")
    at_least = cli.at_least
    parser.add("--iters", type=at_least(1), default=10, help="steps to time (default 10)")
    parser.add("--warmup", type=at_least(0), default=2, help="steps before (default 2)")
    parser.take("threads", "device", "json", "cfg_options")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Time, print a table, write JSON."""
    from mmpanoptic.apis.model import choose_device
    from mmpanoptic.apis.speed import StepTimer, describe_machine, make_table
    from mmpanoptic.engine.config import resolve_config

    device = choose_device(args.device)
    cfg = resolve_config(cli.read_config(args), dataset_meta=make_table().to_metainfo())
    timer = StepTimer(cfg, args.batch_size, tuple(args.size), device, args.iters, args.warmup)
    asked = list(combinations(args))
    rows = [{"switches": some, **timer.measure(**some)} for some in cli.track(asked, "switches")]
    yield format_table(rows)
    machine = describe_machine(device)
    yield ", ".join(f"{key} {value}" for key, value in machine.items())
    given = {key: getattr(args, key) for key in ("config", "size", "batch_size", "iters")}
    cli.save_json(args, {**given, "machine": machine, "figures": rows})


def combinations(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """List the switches of each row: none, each alone, all."""
    asked = {"channels_last": args.channels_last, "amp": args.amp, "compile": args.compile}
    asked = {name: value for name, value in asked.items() if value}
    yield {}
    if len(asked) > 1:
        for name, value in asked.items():
            yield {name: value}
    if asked:
        yield asked


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the figures out, each beside its ratio to the first row."""
    lines = [f"{'images/s':32}{'train':>10}{'':>8}{'inference':>12}{'':>8}"]
    for row in rows:
        names = [key if value is True else str(value) for key, value in row["switches"].items()]
        line = f"{' + '.join(names) or 'plain':32}"
        for name, digits in (("train", 10), ("inference", 12)):
            line += f"{row[name]:>{digits}.3f}{row[name] / rows[0][name]:>7.2f}x"
        lines.append(line)
    return "\n".join(lines)


main = cli.Command(build_parser, run)
