"""Print architectures of a search space readably, with their cost; no model is built."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmpanoptic.apis import get_config
from mmpanoptic.engine.commands import run_command
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.evaluation.tables import render_table
from mmpanoptic.nas import SearchSpace
from mmpanoptic.nas.auto_panoptic_cost import make_costs
from mmpanoptic.utils.cfg_options import ConfigOptions

EXAMPLES = """examples:
  %(prog)s CONFIG 32021320131330010010232210131221120202304123230200011120
  %(prog)s CONFIG model_0.json --input-size 512 1024
  %(prog)s CONFIG CODE --json                        machine readable
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help="config with search_space and model")
    parser.add_argument(
        "architectures", nargs="+", metavar="CODE", help="digits, JSON text or a JSON file"
    )
    parser.add_argument("--input-size", type=int, nargs=2, metavar=("H", "W"), default=(800, 1344))
    parser.add_argument("--box-rois", type=int, default=1000, help="boxes for the box head")
    parser.add_argument("--mask-rois", type=int, default=100, help="boxes for the mask head")
    parser.add_argument("--latencies", metavar="FILE", help="from measure_latency.py")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE")
    return parser.parse_args(argv)


def describe(args: argparse.Namespace) -> None:
    """Print what the arguments ask for."""
    cfg = get_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg = resolve_config(cfg)
    space = SearchSpace.from_config(cfg.search_space)
    costs = make_costs(
        space,
        cfg.model,
        tuple(args.input_size),
        args.box_rois,
        args.mask_rois,
        latencies=args.latencies,
    )
    for code in args.architectures:
        arch = space.parse(Path(code).read_text() if Path(code).suffix == ".json" else code)
        cost = costs.cost(arch)
        if args.json:
            names = space.describe(arch)
            print(json.dumps({"digits": space.digits(arch), "names": names, "cost": cost}))
        else:
            print(f"{space.digits(arch)}\n{json.dumps([space.to_json(arch)])}")
            for name, choices in space.describe(arch).items():
                print(f"  {name}: {' '.join(choices)}")
            print(cost_table(cost))


def cost_table(cost: dict[str, float]) -> str:
    """Draw the costs of every part."""
    parts = list(dict.fromkeys(name.partition(".")[2] for name in cost))
    rows = []
    for part in parts:
        suffix = f".{part}" if part else ""
        rows.append(
            [
                part or "all",
                cost.get(f"macs{suffix}", 0) / 1e9,
                cost.get(f"params{suffix}", 0) / 1e6,
                cost.get(f"latency{suffix}"),
            ]
        )
    return render_table("cost", ["part", "GMACs", "M parameters", "ms"], rows)


def main(argv: list[str] | None = None) -> int:
    """Describe; return the exit status."""
    args = parse_args(argv)
    return run_command(lambda: describe(args))


if __name__ == "__main__":
    sys.exit(main())
