"""How well the fitness in the supernet predicts the quality after retraining.

Takes evaluated candidates of a search, evenly spaced from the worst to the best, retrains each with
the same config, tests it, and computes rank correlations. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search TRAIN_CONFIG --num 6 \\
      --cfg-options data_root=data/shapes max_iters=150
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", help="config of the search", metavar="SEARCH_CONFIG")
    parser.add("folder", type=Path, metavar="FOLDER", help="folder of the search")
    parser.add("base", metavar="TRAIN_CONFIG", help="config of the retraining")
    parser.add(
        "--num",
        old=["--number"],
        type=cli.at_least(2),
        default=6,
        help="networks to retrain (default 6)",
    )
    parser.add("--metric", default="coco_panoptic/PQ", help="default %(default)s")
    parser.add("--out-dir", old=["--out"], type=Path, help="default: FOLDER/../rank_quality")
    parser.take("cfg_options", action="store", default=[], help="of the retrainings")
    return parser


def pick(evaluations: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Take candidates evenly spaced from the worst to the best.

    Raises:
        UsageError: If there are too few.
    """
    valid = sorted(
        (one for one in evaluations if one["fitness"] is not None), key=lambda one: one["fitness"]
    )
    if not 2 <= number <= len(valid):
        raise cli.UsageError(f"--num must lie within 2 and {len(valid)}, got {number}")
    return [valid[round(i)] for i in np.linspace(0, len(valid) - 1, number)]


def retrain(config: Path, work: Path, args: argparse.Namespace) -> float:
    """Train and test one network; return its metric."""
    options = ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    cli.call_tool("train.py", config, "--work-dir", work, "--resume", "--no-validate", *options)
    cli.call_tool("test.py", config, work, "--work-dir", work / "test", *options)
    # mmengine writes the metrics of a test into <work dir>/<time>/<time>.json
    newest = max((work / "test").glob("*/*.json"), key=lambda path: path.stat().st_mtime_ns)
    return float(json.loads(newest.read_text().strip().splitlines()[-1])[args.metric])


def correlations(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Compute Spearman's and Kendall's coefficients (tau b, which allows for ties)."""
    ranks = [_average_ranks(np.array(values)) for values in (first, second)]
    signs = [np.sign(np.subtract.outer(values, values)) for values in (first, second)]
    concordant = (signs[0] * signs[1]).sum()
    scale = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return {
        "spearman": float(np.corrcoef(np.stack(ranks))[0, 1]),
        "kendall": float(concordant / scale),
    }


def _average_ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])


def run(args: argparse.Namespace) -> Iterator[str]:
    """Retrain what is missing and compare."""
    from mmpanoptic.apis import find_config, get_config
    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.evaluation.tables import render_table
    from mmpanoptic.nas import SearchSpace
    from mmpanoptic.nas.export import write_config
    from mmpanoptic.utils import read_json, write_json

    cfg = get_config(args.config)
    cfg.pop("model")
    space = SearchSpace(resolve_config(cfg).search_space)
    out = (args.out_dir or args.folder.parent / "rank_quality").resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows: list[list[Any]] = []
    for one in pick(read_json(args.folder / "search.json")["evaluations"], args.num):
        digits, fitness = one["digits"], one["fitness"]
        result = out / f"{digits}.json"
        if not result.exists():
            config = out / f"{digits}.py"
            write_config(config, space, space.parse(digits), find_config(args.base), fitness)
            write_json(result, {"retrained": retrain(config, out / digits, args)})
        rows.append([digits, fitness, read_json(result)["retrained"]])
    coefficients = correlations([row[1] for row in rows], [row[2] for row in rows])
    yield render_table(args.metric, ["digits", "supernet", "retrained"], rows)
    yield ", ".join(f"{name} {value:.2f}" for name, value in coefficients.items())
    write_json(out / "rank_quality.json", {"networks": rows, **coefficients}, indent=1)


main = cli.Command(build_parser, run)
