"""All stages of an architecture search in miniature: the commands of `make search-demo`.

A run that is stopped at any moment and started again goes on and ends with the same result.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mmpanoptic.utils import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = "configs/auto_panoptic/auto-panoptic_tiny"
SIZES = {
    "demo": {
        "train": 240,
        "val": 40,
        "pretrain": 60,
        "supernet": 240,
        "cycles": 4,
        "images": 16,
        "retrain": 180,
    },
    "quick": {
        "train": 12,
        "val": 4,
        "pretrain": 4,
        "supernet": 6,
        "cycles": 1,
        "images": 2,
        "retrain": 4,
    },
}


class Step(NamedTuple):
    """One command; ``result`` is the file that shows that it is done, "" for quick ones."""

    name: str
    command: list[str]
    result: str = ""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/search-demo", help="folder of the data")
    parser.add_argument("--work-dir", default="work_dirs/search-demo", help="folder of the results")
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="demo",
        help="quick: so few iterations that nothing is learned, to see that everything runs",
    )
    return parser.parse_args()


def make_steps(data: str, work: str, size: Mapping[str, int]) -> Iterator[Step]:
    """List the steps."""
    shapes, crops = f"{data}/shapes", f"{data}/crops"
    counts = ("--train", str(size["train"]), "--val", str(size["val"]))
    yield Step("data", ["tools/dataset_converters/shapes.py", shapes, *counts])
    for part in ("train", "val"):
        source = (f"{shapes}/annotations/panoptic_{part}.json", f"{shapes}/{part}")
        cut = "tools/dataset_converters/thing_crops.py"
        yield Step(f"crops of {part}", [cut, *source, f"{crops}/{part}"])
    yield train(
        "stage 1, supernet of the backbone",
        f"{CONFIGS}-supernet_1xb32-120_shapes-crops.py",
        f"{work}/1-imagenet-supernet",
        size["pretrain"],
        data_root=crops,
    )
    yield train(
        "stage 2, supernet",
        f"{CONFIGS}-supernet_1xb4-300_shapes.py",
        f"{work}/2-supernet",
        size["supernet"],
        data_root=shapes,
        load_from=f"{work}/1-imagenet-supernet/iter_{size['pretrain']}.pth",
    )
    yield search(f"{work}/2-supernet/iter_{size['supernet']}.pth", shapes, work, size)
    models = f"{work}/2-search/search/models"
    yield train(
        "stage 3, the found backbone",
        f"{models}/model_0_pretrain.py",
        f"{work}/3-imagenet",
        size["pretrain"],
        data_root=crops,
    )
    yield train(
        "stage 4, the found model",
        f"{models}/model_0_retrain.py",
        f"{work}/4-retrain",
        size["retrain"],
        data_root=shapes,
        batch_size="4",
        load_from=f"{work}/3-imagenet/iter_{size['pretrain']}.pth",
    )
    yield from evaluate(f"{models}/model_0_retrain.py", shapes, work)


def search(weights: str, shapes: str, work: str, size: Mapping[str, int]) -> Step:
    """Make the step of the search."""
    folder = f"{work}/2-search"
    options = [
        f"data_root={shapes}",
        f"num_images={size['images']}",
        f"train_cfg.cycles={size['cycles']}",
        f"load_from={weights}",
    ]
    command = ["tools/train.py", f"{CONFIGS}-search_1xb8-12c_shapes.py", "--work-dir", folder]
    result = f"{folder}/search/models/model_2_retrain.py"
    return Step("stage 2, search", [*command, "--cfg-options", *options], result)


def evaluate(config: str, shapes: str, work: str) -> Iterator[Step]:
    """Make the steps that measure the found model."""
    out = f"{work}/predictions"
    command = ["tools/test.py", config, f"{work}/4-retrain", "--work-dir", f"{work}/test"]
    yield Step("test", [*command, "--out", out, "--cfg-options", f"data_root={shapes}"])
    truth = ("--gt_json_file", f"{shapes}/annotations/panoptic_val.json")
    predictions = ("--pred_json_file", f"{out}/predictions.panoptic.json")
    tool = "tools/analysis_tools/eval_panoptic.py"
    yield Step("evaluate", [tool, *truth, *predictions, "--json", f"{work}/pq.json"])


def train(name: str, config: str, folder: str, iters: int, **options: str) -> Step:
    """Make the step of one training; it goes on where it was stopped."""
    values = {"max_iters": iters, "warmup_iters": max(1, iters // 10), **options}
    # Every window of three paths is an optimizer step, so checkpoints come in multiples of three.
    values["checkpoint_interval"] = max(3, iters // 6 * 3)
    variables = [f"{key}={value}" for key, value in values.items()]
    command = ["tools/train.py", config, "--work-dir", folder, "--resume", "--no-validate"]
    return Step(name, [*command, "--cfg-options", *variables], f"{folder}/iter_{iters}.pth")


def run(name: str, command: list[str]) -> float:
    """Run one command in the clone; return its seconds.

    Raises:
        SystemExit: If it fails.
    """
    print(f"\n== {name}: python {shlex.join(command)}", flush=True)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"search-demo: the step '{name}' failed; its message stands above")
    return time.perf_counter() - start


def main() -> None:
    """Run all steps that are not done, and write metrics.json."""
    args = parse_args()
    work = ROOT / args.work_dir
    work.mkdir(parents=True, exist_ok=True)
    seconds_file = work / "seconds.json"
    seconds = read_json(seconds_file) if seconds_file.exists() else {}
    for name, command, result in make_steps(args.data, args.work_dir, SIZES[args.size]):
        if result and (ROOT / result).exists() and name in seconds:
            print(f"== {name}: done before")
            continue
        seconds[name] = run(name, command)
        write_json(seconds_file, seconds, indent=1)
    quality = read_json(work / "pq.json")
    search = work / "2-search" / "search"
    found = read_json(search / "search.json")["models"][0]
    metrics = {
        "architecture": found["digits"],
        "PQ": {group: 100 * quality[group]["pq"] for group in ("All", "Things", "Stuff")},
        "seconds": seconds | {"total": sum(seconds.values())},
    }
    write_json(work / "metrics.json", metrics, indent=1)
    print("\nseconds: " + json.dumps({k: round(v, 1) for k, v in metrics["seconds"].items()}))
    print(f"architecture {found['digits']}: PQ {metrics['PQ']['All']:.1f} on held-out images")
    print(f"Pareto picture: {search / 'pareto_macs.png'}")
    print(f"scoreboard: {search / 'scoreboard.png'}")
    print(f"metrics: {work / 'metrics.json'}")


if __name__ == "__main__":
    main()
