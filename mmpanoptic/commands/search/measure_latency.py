"""Measure the latency of every choice of a supernet on this machine, to constrain a search."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s CONFIG latency.json --size 800 1344
  tools/train.py SEARCH_CONFIG --cfg-options train_cfg.cost.latencies=latency.json \\
      train_cfg.constraints.latency='[None,60]'
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", help="config of the supernet")
    parser.add("out", metavar="OUT", help="JSON file to write")
    parser.take("size", old=["--input-size"], default=(800, 1344))
    parser.add("--repeats", type=cli.at_least(1), default=20, help="calls that count (default 20)")
    parser.add("--warmup", type=cli.at_least(0), default=5, help="calls before them (default 5)")
    parser.take("device", "cfg_options")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Measure and write the file."""
    import torch

    from mmpanoptic.apis import init_model
    from mmpanoptic.apis.choice_latency import measure_choices
    from mmpanoptic.nas import SearchSpace
    from mmpanoptic.utils import write_json

    model: Any = init_model(args.config, None, args.device, args.cfg_options)
    SearchSpace(model.cfg.search_space).check_model(model)
    height, width = args.size
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)

    def forward() -> None:
        data = model.data_preprocessor({"inputs": [image], "data_samples": None}, False)
        model(data["inputs"], mode="tensor")

    measured = measure_choices(model, forward, args.repeats, args.warmup)
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    note = f"{name}, {torch.get_num_threads()} threads, input {height}x{width}, batch 1"
    write_json(args.out, {"note": note, **measured}, indent=1)
    yield f"{args.out}: {note}; fixed part {measured['base_ms']:.1f} ms"


main = cli.Command(build_parser, run)
