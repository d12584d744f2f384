"""Print architectures of a search space readably, with their cost; no model is built."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s CONFIG 32021320131330010010232210131221120202304123230200011120
  %(prog)s CONFIG model_0.json --size 512 1024
  %(prog)s CONFIG test_models/COCO_3.8G              # a published architecture
  %(prog)s CONFIG CODE --json -                      # machine readable, on the standard output
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", help="config with search_space and model")
    parser.add("architectures", nargs="+", metavar="CODE", help="digits, JSON text or a file")
    parser.take("size", old=["--input-size"], default=(800, 1344))
    parser.add("--box-rois", type=cli.at_least(0), default=1000, help="boxes for the box head")
    parser.add("--mask-rois", type=cli.at_least(0), default=100, help="boxes for the mask head")
    parser.add("--latencies", metavar="FILE", help="from measure_latency.py")
    parser.take("json", nargs="?", const=Path("-"), help="write a JSON list; -: a line each, here")
    parser.take("cfg_options")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Describe every architecture."""
    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.nas import SearchSpace
    from mmpanoptic.nas.auto_panoptic_cost import make_costs
    from mmpanoptic.nas.published import read_architecture
    from mmpanoptic.utils import write_json

    cfg = resolve_config(cli.read_config(args))
    space = SearchSpace(cfg.search_space)
    costs = make_costs(
        space,
        cfg.model,
        tuple(args.size),
        args.box_rois,
        args.mask_rois,
        latencies=args.latencies,
    )
    described = []
    for code in args.architectures:
        arch = read_architecture(space, code)
        names, cost = space.describe(arch), costs.cost(arch)
        described.append({"digits": space.digits(arch), "names": names, "cost": cost})
        if args.json == Path("-"):
            yield json.dumps(described[-1])
        else:
            yield f"{space.digits(arch)}\n{json.dumps([space.to_json(arch)])}"
            yield from (f"  {name}: {' '.join(choices)}" for name, choices in names.items())
            yield cost_table(cost)
    if args.json and args.json != Path("-"):
        write_json(args.json, described, indent=1)


def cost_table(cost: Mapping[str, float]) -> str:
    """Draw the costs of every part."""
    from mmpanoptic.evaluation.tables import render_table

    rows = []
    for part in dict.fromkeys(name.partition(".")[2] for name in cost):
        suffix = f".{part}" if part else ""
        macs, params = (cost.get(f"{kind}{suffix}", 0) for kind in ("macs", "params"))
        rows.append([part or "all", macs / 1e9, params / 1e6, cost.get(f"latency{suffix}")])
    return render_table("cost", ["part", "GMACs", "M parameters", "ms"], rows)


main = cli.Command(build_parser, run)
