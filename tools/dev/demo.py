"""From nothing to a trained, tested and drawn panoptic model: the commands of `make demo`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.utils import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb8-500_shapes.py"
EXAMPLES = """
  %(prog)s
  %(prog)s --data /fast/shapes --work-dir work_dirs/demo2
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--data", default="data/shapes", help="folder of the dataset")
    parser.take("work_dir", default="work_dirs/demo", help="folder of the results")
    return parser


def make_steps(data: str, work: str) -> dict[str, list[str]]:
    """List the commands by the name of their step."""
    truth, predictions = f"{data}/annotations/panoptic_val.json", f"{work}/predictions"
    result = f"{predictions}/predictions.panoptic.json"
    per_image = f"{work}/per_image.json"
    variables = ["--cfg-options", f"data_root={data}"]
    return {
        "data": ["dataset_converters/shapes.py", data],
        "train": ["train.py", CONFIG, "--work-dir", work, "--no-validate", *variables],
        "test": [
            "test.py", CONFIG, work, "--work-dir", work, "--out-dir", predictions, *variables,
        ],
        "evaluate": [
            "analysis_tools/eval_panoptic.py", "--gt_json_file", truth,
            "--pred_json_file", result, "--json", f"{work}/pq.json", "--per-image", per_image,
        ],
        "draw": [
            "analysis_tools/browse_predictions.py", truth, result, f"{data}/val",
            "--out-dir", f"{work}/gallery", "--per-image", per_image,
            "--title", "Panoptic-DeepLab on shapes",
        ],
    }  # fmt: skip


def run(args: argparse.Namespace) -> Iterator[str]:
    """Run all steps and write metrics.json."""
    work = ROOT / args.work_dir
    seconds = {
        # The evaluation of the files prints the tables of the test once more.
        name: cli.call_tool(*step, folder=ROOT, silent=name == "evaluate")
        for name, step in make_steps(args.data, args.work_dir).items()
    }
    seconds["total"] = sum(seconds.values())
    quality = read_json(work / "pq.json")
    groups = {
        group: {key: value if key == "n" else 100 * value for key, value in quality[group].items()}
        for group in ("All", "Things", "Stuff")
    }
    write_json(work / "metrics.json", {"PQ": groups, "seconds": seconds}, indent=1)
    yield "seconds: " + json.dumps({name: round(value, 1) for name, value in seconds.items()})
    yield f"PQ {groups['All']['pq']:.1f} on the held-out images"
    yield f"metrics: {work / 'metrics.json'}"
    yield f"gallery: {work / 'gallery' / 'index.html'}"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
