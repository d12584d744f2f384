"""Choose networks from the evaluations of a search: for other limits, or a whole series of them.

Nothing is evaluated: the scores of the choices come from the evaluations that are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.apis import find_config, get_config
from mmpanoptic.engine.commands import run_command
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.evaluation.tables import render_table
from mmpanoptic.nas import SearchSpace
from mmpanoptic.nas.auto_panoptic_cost import make_costs
from mmpanoptic.nas.budget import best_in_ranges
from mmpanoptic.nas.cost import CostTable, check_ranges
from mmpanoptic.nas.export import config_text
from mmpanoptic.nas.scoring import ridge_scores
from mmpanoptic.utils import atomic_write, read_json, write_json
from mmpanoptic.utils.cfg_options import ConfigOptions

EXAMPLES = """examples:
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search --limit macs=3e11
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search --limit macs=3e11 --out model --base CONFIG
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search --curve macs --points 8
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="SEARCH_CONFIG", help="config of the search")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the search")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--limit", nargs="+", metavar="COST=GREATEST", help="the best network within the limits"
    )
    what.add_argument("--curve", metavar="COST", help="the best networks for a series of limits")
    parser.add_argument("--points", type=int, default=8, help="limits of --curve (default 8)")
    parser.add_argument("--penalty", type=float, default=1.0, help="of the ridge scorer")
    parser.add_argument("--out", type=Path, metavar="STEM", help="write STEM.json (and STEM.py)")
    parser.add_argument("--base", metavar="CONFIG", help="config that STEM.py inherits")
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE")
    return parser.parse_args(argv)


def read_limits(texts: list[str]) -> dict[str, tuple[None, float]]:
    """Read ``macs=3e11`` and the like.

    Raises:
        ValueError: If one has another form.
    """
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limits[name] = (None, float(value))
        except ValueError as error:
            raise ValueError(
                f"--limit needs COST=GREATEST such as macs=3e11, got {text}"
            ) from error
    return limits


def choose(args: argparse.Namespace) -> None:
    """Choose and print."""
    cfg = get_config(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    cfg = resolve_config(cfg)
    space = SearchSpace.from_config(cfg.search_space)
    costs = make_costs(space, cfg.model, **(cfg.train_cfg.get("cost") or {}))
    evaluated = read_json(args.folder / "search.json")["evaluations"]
    candidates = [
        (space.parse(one["digits"]), one["fitness"])
        for one in evaluated
        if one["fitness"] is not None
    ]
    scores = ridge_scores(space, candidates, args.penalty)
    mean = float(np.mean([fitness for _, fitness in candidates]))
    rows = []
    limits = [check_ranges(read_limits(args.limit))] if args.limit else list(series(costs, args))
    for ranges in limits:
        arch = best_in_ranges(costs, scores, ranges)
        cost = costs.cost(arch)
        predicted = mean + sum(float(s[c]) for s, c in zip(scores, arch, strict=True))
        shown = [f"{cost[name]:.4g}" for name in ("macs", "params")]
        rows.append([space.digits(arch), predicted, *shown])
        if args.out and args.limit:
            write(args, space, arch)
    print(render_table("predicted by ridge", ["digits", "fitness", "macs", "params"], rows))


def series(costs: CostTable, args: argparse.Namespace) -> Iterator[dict[str, tuple[None, float]]]:
    """Yield limits from the cheapest to the dearest network."""
    fixed, shares = costs.split(args.curve)
    low = fixed + sum(float(share.min()) for share in shares)
    high = fixed + sum(float(share.max()) for share in shares)
    for limit in np.linspace(low, high, args.points + 1)[1:]:
        yield {args.curve: (None, float(limit))}


def write(args: argparse.Namespace, space: SearchSpace, arch: Any) -> None:
    """Write the choices, and a config if ``--base`` is given."""
    write_json(args.out.with_suffix(".json"), [space.to_json(arch)])
    if args.base:
        path = args.out.with_suffix(".py")
        text = config_text(space, arch, find_config(args.base), path)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Choose; return the exit status."""
    args = parse_args(argv)
    return run_command(lambda: choose(args))


if __name__ == "__main__":
    sys.exit(main())
