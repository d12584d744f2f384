"""Measure the latency of every choice of a supernet on this machine, to constrain a search."""

from __future__ import annotations

import argparse
import sys

import torch
from mmengine.registry import init_default_scope

from mmpanoptic.apis import get_config
from mmpanoptic.apis.model import choose_device
from mmpanoptic.engine.commands import run_command
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.nas import SearchSpace
from mmpanoptic.nas.latency import measure_choices, write_latencies
from mmpanoptic.registry import MODELS
from mmpanoptic.utils.cfg_options import ConfigOptions

EXAMPLES = """examples:
  %(prog)s CONFIG latency.json --input-size 800 1344
  tools/train.py SEARCH_CONFIG --cfg-options train_cfg.cost.latencies=latency.json \\
      train_cfg.constraints.latency='[None,60]'
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help="config of the supernet")
    parser.add_argument("out", metavar="OUT", help="JSON file to write")
    parser.add_argument("--input-size", type=int, nargs=2, metavar=("H", "W"), default=(800, 1344))
    parser.add_argument("--repeats", type=int, default=20, help="calls that count (default 20)")
    parser.add_argument("--warmup", type=int, default=5, help="calls before them (default 5)")
    parser.add_argument("--device", help="default: the GPU if there is one")
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> None:
    """Measure and write the file."""
    cfg = get_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg = resolve_config(cfg)
    init_default_scope("mmpanoptic")
    space = SearchSpace.from_config(cfg.search_space)
    device = choose_device(args.device)
    model = MODELS.build(cfg.model).to(device).eval()
    height, width = args.input_size
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)

    def forward() -> None:
        data = model.data_preprocessor({"inputs": [image], "data_samples": None}, False)
        model(data["inputs"], mode="tensor")

    measured = measure_choices(model, space, forward, args.repeats, args.warmup)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    note = f"{name}, {torch.get_num_threads()} threads, input {height}x{width}, batch 1"
    write_latencies(args.out, space, measured, note)
    print(f"{args.out}: {note}; fixed part {measured['base_ms']:.1f} ms")


def main(argv: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    args = parse_args(argv)
    return run_command(lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
