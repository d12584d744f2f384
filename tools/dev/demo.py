"""From nothing to a trained, tested and drawn panoptic model: the commands of `make demo`."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mmpanoptic.utils import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb8-500_shapes.py"
GROUPS = ("All", "Things", "Stuff")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/shapes", help="folder of the dataset")
    parser.add_argument("--work-dir", default="work_dirs/demo", help="folder of the results")
    return parser.parse_args()


def make_steps(data: str, work: str) -> dict[str, list[str]]:
    """List the commands by the name of their step."""
    truth, predictions = f"{data}/annotations/panoptic_val.json", f"{work}/predictions"
    result = f"{predictions}/predictions.panoptic.json"
    per_image = f"{work}/per_image.json"
    variables = ["--cfg-options", f"data_root={data}"]
    return {
        "data": ["tools/dataset_converters/shapes.py", data],
        "train": ["tools/train.py", CONFIG, "--work-dir", work, "--no-validate", *variables],
        "test": [
            "tools/test.py", CONFIG, work, "--work-dir", work,
            "--out", predictions, *variables,
        ],
        "evaluate": [
            "tools/analysis_tools/eval_panoptic.py", "--gt_json_file", truth,
            "--pred_json_file", result, "--json", f"{work}/pq.json", "--per-image", per_image,
        ],
        "draw": [
            "tools/analysis_tools/browse_predictions.py", truth, result, f"{data}/val",
            "--out", f"{work}/gallery", "--per-image", per_image,
            "--title", "Panoptic-DeepLab on shapes",
        ],
    }  # fmt: skip


def run(name: str, command: list[str]) -> float:
    """Run one command in the clone; return its seconds.

    Raises:
        SystemExit: If it fails.
    """
    print(f"\n== {name}: python {shlex.join(command)}", flush=True)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"demo: the step '{name}' failed; its message stands above")
    return time.perf_counter() - start


def percent(quality: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Take the averages of eval_panoptic.py, in percent."""
    return {
        group: {key: value if key == "n" else 100 * value for key, value in quality[group].items()}
        for group in GROUPS
    }


def main() -> None:
    """Run all steps and write metrics.json."""
    args = parse_args()
    work = ROOT / args.work_dir
    seconds = {name: run(name, step) for name, step in make_steps(args.data, args.work_dir).items()}
    seconds["total"] = sum(seconds.values())
    metrics = {"PQ": percent(read_json(work / "pq.json")), "seconds": seconds}
    write_json(work / "metrics.json", metrics, indent=1)
    print("\nseconds: " + json.dumps({name: round(value, 1) for name, value in seconds.items()}))
    print(f"PQ {metrics['PQ']['All']['pq']:.1f} on the held-out images")
    print(f"metrics: {work / 'metrics.json'}")
    print(f"gallery: {work / 'gallery' / 'index.html'}")


if __name__ == "__main__":
    main()
