"""How well the fitness in the supernet predicts the quality after retraining.

Takes evaluated candidates of a search, evenly spaced from the worst to the best, retrains each with
the same config, tests it, and computes rank correlations. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.apis import find_config, get_config
from mmpanoptic.engine.commands import run_command
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.evaluation.tables import render_table
from mmpanoptic.nas import SearchSpace
from mmpanoptic.nas.export import config_text
from mmpanoptic.utils import atomic_write, read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """examples:
  %(prog)s SEARCH_CONFIG work_dirs/NAME/search TRAIN_CONFIG --number 6 \\
      --cfg-options data_root=data/shapes max_iters=150
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="SEARCH_CONFIG", help="config of the search")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the search")
    parser.add_argument("base", metavar="TRAIN_CONFIG", help="config of the retraining")
    parser.add_argument("--number", type=int, default=6, help="networks to retrain (default 6)")
    parser.add_argument("--metric", default="coco_panoptic/PQ", help="default %(default)s")
    parser.add_argument("--out", type=Path, help="default: FOLDER/../rank_quality")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="for the retrainings"
    )
    return parser.parse_args(argv)


def pick(evaluations: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Take candidates evenly spaced from the worst to the best.

    Raises:
        ValueError: If there are too few.
    """
    valid = sorted(
        (one for one in evaluations if one["fitness"] is not None), key=lambda one: one["fitness"]
    )
    if not 2 <= number <= len(valid):
        raise ValueError(f"--number must lie within 2 and {len(valid)}, got {number}")
    return [valid[round(i)] for i in np.linspace(0, len(valid) - 1, number)]


def retrain(config: Path, work: Path, args: argparse.Namespace) -> float:
    """Train and test one network; return its metric.

    Raises:
        RuntimeError: If a command fails.
    """
    options = ["--cfg-options", *args.cfg_options] if args.cfg_options else []
    folder = ["--work-dir", str(work)]
    train = ["tools/train.py", str(config), *folder, "--resume", "--no-validate", *options]
    test = ["tools/test.py", str(config), str(work), "--work-dir", str(work / "test"), *options]
    for command in (train, test):
        done = subprocess.run([sys.executable, *command], cwd=ROOT)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed; its message stands above")
    # mmengine writes the metrics of a test into <work dir>/<time>/<time>.json
    newest = max((work / "test").glob("*/*.json"), key=lambda path: path.stat().st_mtime_ns)
    return float(json.loads(newest.read_text().strip().splitlines()[-1])[args.metric])


def correlations(first: list[float], second: list[float]) -> dict[str, float]:
    """Compute Spearman's and Kendall's coefficients (tau b, which allows for ties)."""
    ranks = [_average_ranks(np.array(values)) for values in (first, second)]
    signs = [np.sign(np.subtract.outer(values, values)) for values in (first, second)]
    concordant = (signs[0] * signs[1]).sum()
    scale = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return {
        "spearman": float(np.corrcoef(*ranks)[0, 1]),
        "kendall": float(concordant / scale),
    }


def _average_ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])


def compare(args: argparse.Namespace) -> None:
    """Retrain what is missing and print the comparison."""
    cfg = get_config(args.config)
    cfg.pop("model")
    space = SearchSpace.from_config(resolve_config(cfg).search_space)
    out = (args.out or args.folder.parent / "rank_quality").resolve()
    out.mkdir(parents=True, exist_ok=True)
    picked = pick(read_json(args.folder / "search.json")["evaluations"], args.number)
    found = []
    for one in picked:
        result = out / f"{one['digits']}.json"
        if not result.exists():
            config = out / f"{one['digits']}.py"
            text = config_text(
                space, space.parse(one["digits"]), find_config(args.base), config, one["fitness"]
            )
            with atomic_write(config) as temporary:
                temporary.write_text(text, encoding="utf-8")
            write_json(result, {"retrained": retrain(config, out / one["digits"], args)})
        found.append(read_json(result)["retrained"])
    fitness = [one["fitness"] for one in picked]
    coefficients = correlations(fitness, found)
    rows = [
        [one["digits"], one["fitness"], value] for one, value in zip(picked, found, strict=True)
    ]
    print(render_table(args.metric, ["digits", "supernet", "retrained"], rows))
    print(", ".join(f"{name} {value:.2f}" for name, value in coefficients.items()))
    write_json(out / "rank_quality.json", {"networks": rows, **coefficients}, indent=1)


def main(argv: list[str] | None = None) -> int:
    """Compare; return the exit status."""
    args = parse_args(argv)
    return run_command(lambda: compare(args))


if __name__ == "__main__":
    sys.exit(main())
