"""All stages of an architecture search in miniature: the commands of `make search-demo`.

A run that is stopped at any moment and started again goes on and ends with the same result.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mmpanoptic import cli
from mmpanoptic.utils import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = "configs/auto_panoptic/auto-panoptic_tiny"
EXAMPLES = """
  %(prog)s
  %(prog)s --preset quick --work-dir work_dirs/search-quick
"""
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


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--data", default="data/search-demo", help="folder of the data")
    parser.take("work_dir", default="work_dirs/search-demo", help="folder of the results")
    parser.add(
        "--preset",
        old=["--size"],
        choices=SIZES,
        default="demo",
        help="quick: so few iterations that nothing is learned, to see that everything runs",
    )
    return parser


def make_steps(data: str, work: str, size: Mapping[str, int]) -> Iterator[Step]:
    """List the steps."""
    shapes, crops = f"{data}/shapes", f"{data}/crops"
    counts = ("--train", str(size["train"]), "--val", str(size["val"]))
    yield Step("data", ["dataset_converters/shapes.py", shapes, *counts])
    for part in ("train", "val"):
        source = (f"{shapes}/annotations/panoptic_{part}.json", f"{shapes}/{part}")
        cut = "dataset_converters/thing_crops.py"
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
    command = ["train.py", f"{CONFIGS}-search_1xb8-12c_shapes.py", "--work-dir", folder]
    result = f"{folder}/search/models/model_2_retrain.py"
    return Step("stage 2, search", [*command, "--cfg-options", *options], result)


def evaluate(config: str, shapes: str, work: str) -> Iterator[Step]:
    """Make the steps that measure the found model."""
    out = f"{work}/predictions"
    command = ["test.py", config, f"{work}/4-retrain", "--work-dir", f"{work}/test"]
    yield Step("test", [*command, "--out-dir", out, "--cfg-options", f"data_root={shapes}"])
    truth = ("--gt_json_file", f"{shapes}/annotations/panoptic_val.json")
    predictions = ("--pred_json_file", f"{out}/predictions.panoptic.json")
    tool = "analysis_tools/eval_panoptic.py"
    yield Step("evaluate", [tool, *truth, *predictions, "--json", f"{work}/pq.json"])


def train(name: str, config: str, folder: str, iters: int, **options: str) -> Step:
    """Make the step of one training; it goes on where it was stopped."""
    values = {"max_iters": iters, "warmup_iters": max(1, iters // 10), **options}
    # Every window of three paths is an optimizer step, so checkpoints come in multiples of three.
    values["checkpoint_interval"] = max(3, iters // 6 * 3)
    variables = [f"{key}={value}" for key, value in values.items()]
    command = ["train.py", config, "--work-dir", folder, "--resume", "--no-validate"]
    return Step(name, [*command, "--cfg-options", *variables], f"{folder}/iter_{iters}.pth")


def run(args: argparse.Namespace) -> Iterator[str]:
    """Run all steps that are not done, and write metrics.json."""
    work = ROOT / args.work_dir
    work.mkdir(parents=True, exist_ok=True)
    seconds_file = work / "seconds.json"
    seconds = read_json(seconds_file) if seconds_file.exists() else {}
    for name, command, result in make_steps(args.data, args.work_dir, SIZES[args.preset]):
        if result and (ROOT / result).exists() and name in seconds:
            yield f"== {name}: done before"
            continue
        yield f"== {name}"
        seconds[name] = cli.call_tool(*command, folder=ROOT)
        write_json(seconds_file, seconds, indent=1)
    quality = read_json(work / "pq.json")
    search = work / "2-search" / "search"
    found = read_json(search / "search.json")["models"][0]
    pq = {group: 100 * quality[group]["pq"] for group in ("All", "Things", "Stuff")}
    seconds["total"] = sum(seconds.values())
    metrics = {"architecture": found["digits"], "PQ": pq, "seconds": seconds}
    write_json(work / "metrics.json", metrics, indent=1)
    yield "\nseconds: " + json.dumps({k: round(v, 1) for k, v in seconds.items()})
    yield f"architecture {found['digits']}: PQ {pq['All']:.1f} on held-out images"
    yield f"Pareto picture: {search / 'pareto_macs.png'}"
    yield f"scoreboard: {search / 'scoreboard.png'}"
    yield f"metrics: {work / 'metrics.json'}"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
