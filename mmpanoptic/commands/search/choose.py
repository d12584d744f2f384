"""Choose networks from the evaluations of a search: for other limits, or a whole series of them.

Nothing is evaluated: the scores of the choices come from the evaluations that are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.nas import SearchSpace
    from mmpanoptic.nas.cost import CostTable

EXAMPLES = """
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search --limit macs=3e11
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search --limit macs=3e11 --out model --base CONFIG
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search --curve macs --points 8
  %(prog)s SEARCH_CONFIG search_log.json --limit macs=4e11      # the log that the authors published
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", help="config of the search", metavar="SEARCH_CONFIG")
    parser.add(
        "folder", type=Path, metavar="FOLDER", help="folder of the search, or the published log"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--limit", nargs="+", metavar="COST=GREATEST", help="the best network within the limits"
    )
    what.add_argument("--curve", metavar="COST", help="the best networks for a series of limits")
    parser.add("--points", type=cli.at_least(1), default=8, help="limits of --curve (default 8)")
    parser.add("--penalty", type=float, default=1.0, help="of the ridge scorer")
    parser.add("--out", type=Path, metavar="STEM", help="write STEM.json (and STEM.py)")
    parser.add("--base", metavar="CONFIG", help="config that STEM.py inherits")
    parser.take("cfg_options")
    return parser


def read_limits(texts: Sequence[str]) -> dict[str, tuple[None, float]]:
    """Read ``macs=3e11`` and the like.

    Raises:
        UsageError: If one has another form.
    """
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limits[name] = (None, float(value))
        except ValueError as error:
            raise cli.UsageError(
                f"--limit needs COST=GREATEST such as macs=3e11, got {text}"
            ) from error
    return limits


def run(args: argparse.Namespace) -> Iterator[str]:
    """Choose."""
    if (args.out and args.curve) or (args.base and not args.out):
        raise cli.UsageError("--out goes with --limit, and --base with --out")
    limits = read_limits(args.limit) if args.limit else None
    import numpy as np

    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.evaluation.tables import render_table
    from mmpanoptic.nas import SearchSpace
    from mmpanoptic.nas.auto_panoptic_cost import make_costs
    from mmpanoptic.nas.cost import check_ranges
    from mmpanoptic.nas.published import read_evaluations
    from mmpanoptic.nas.scoring import best_in_ranges, ridge_scores

    cfg = resolve_config(cli.read_config(args))
    space = SearchSpace(cfg.search_space)
    costs = make_costs(space, cfg.model, **(cfg.train_cfg.get("cost") or {}))
    candidates = read_evaluations(space, args.folder)
    scores = ridge_scores(space, candidates, args.penalty)
    mean = float(np.mean([fitness for _, fitness in candidates]))
    rows = []
    for ranges in [check_ranges(limits)] if limits else series(costs, args.curve, args.points):
        arch = best_in_ranges(costs, scores, ranges)
        cost = costs.cost(arch)
        predicted = mean + sum(float(s[c]) for s, c in zip(scores, arch, strict=True))
        rows.append([space.digits(arch), predicted, f"{cost['macs']:.4g}", f"{cost['params']:.4g}"])
        if args.out:
            write(args, space, arch)
    yield render_table("predicted by ridge", ["digits", "fitness", "macs", "params"], rows)


def series(costs: CostTable, name: str, points: int) -> Iterator[dict[str, tuple[None, float]]]:
    """Yield limits of a cost from that of the cheapest to that of the dearest network."""
    fixed, shares = costs.split(name)
    low = fixed + sum(float(share.min()) for share in shares)
    high = fixed + sum(float(share.max()) for share in shares)
    for number in range(1, points + 1):
        yield {name: (None, low + (high - low) * number / points)}


def write(args: argparse.Namespace, space: SearchSpace, arch: Any) -> None:
    """Write the choices, and a config if ``--base`` is given."""
    from mmpanoptic.apis import find_config
    from mmpanoptic.nas.export import write_config
    from mmpanoptic.utils import write_json

    write_json(args.out.with_suffix(".json"), [space.to_json(arch)])
    if args.base:
        write_config(args.out.with_suffix(".py"), space, arch, find_config(args.base))


main = cli.Command(build_parser, run)
