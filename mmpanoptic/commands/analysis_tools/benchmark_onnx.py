"""Compare an exported model with PyTorch: maps, scores and processor time of each image.

Both take the image as an array and give the panoptic result, post-processing included. Times are of
the processor (all threads together), and both take turns, so that other programs hardly move them;
ratios within one run are what to read.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s work_dirs/run exported data/shapes/val --count 20 --threads 1
  %(prog)s CONFIG CHECKPOINT exported/model.onnx photos --json figures.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "checkpoint")
    parser.add("exported", metavar="EXPORTED", type=Path, help="from export --end-to-end")
    parser.add("images", metavar="IMAGES", type=Path, help="an image or a folder")
    parser.add("--count", type=cli.at_least(1), default=20, help="images (default %(default)s)")
    parser.add("--repeats", type=cli.at_least(1), default=3, help="runs (default %(default)s)")
    parser.take("threads", "cfg_options", "trust", "json")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Compare and measure."""
    from mmpanoptic.apis.stacked_instances import StackingInferencer
    from mmpanoptic.runtime import PanopticRuntime
    from mmpanoptic.runtime.model import list_files, read_image

    model = cli.load_model(args, "cpu")
    start = time.process_time()
    runtime = PanopticRuntime(args.exported, args.threads, score_thr=0.0)
    started = time.process_time() - start
    inferencer = StackingInferencer.of_model(model)
    files = list_files(args.images)[: args.count]
    images = [np.ascontiguousarray(read_image(file)[..., ::-1]) for file in files]
    rows = []
    for image in images:
        ours, theirs = runtime([image])[0], inferencer([image])[0]
        rows.append(compare(ours, theirs))
    calls = {"onnxruntime": partial(runtime, images), "PyTorch": partial(inferencer, images)}
    seconds = least_times(calls, args.repeats)
    figures = summarise(rows, seconds, len(images), started)
    cli.save_json(args, figures)
    yield from (f"{name}: {value}" for name, value in figures.items())


def compare(ours: Any, theirs: Any) -> dict[str, float]:
    """Compare two results: equal pixels of ids and of classes, difference of scores."""
    labels = [
        np.concatenate([[-1], result.labels])[result.panoptic_seg] for result in (ours, theirs)
    ]
    same = len(ours.segments_info) == len(theirs.segments_info)
    difference = np.abs(ours.scores - theirs.scores).max(initial=0) if same else np.nan
    return {
        "ids": float((ours.panoptic_seg == theirs.panoptic_seg).mean()),
        "labels": float((labels[0] == labels[1]).mean()),
        "scores": float(difference),
    }


def least_times(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Measure the processor time of the fastest run of each call; the calls take turns."""
    seconds = dict.fromkeys(calls, math.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def summarise(
    rows: list[dict[str, float]], seconds: dict[str, float], count: int, started: float
) -> dict[str, Any]:
    """Collect the figures."""
    scores = np.array([row["scores"] for row in rows])
    milliseconds = {name: 1000 * value / count for name, value in seconds.items()}
    return {
        "images": count,
        "equal pixels of the class map": f"{np.mean([row['labels'] for row in rows]):.3%}",
        "equal pixels of the id map": f"{np.mean([row['ids'] for row in rows]):.3%}",
        "images with another number of segments": int(np.isnan(scores).sum()),
        "largest difference of scores": float(f"{np.nanmax(scores, initial=0):.1e}"),
        "start of the runtime, seconds of the processor": round(started, 2),
        **{f"{name}, ms an image": round(value, 1) for name, value in milliseconds.items()},
        "PyTorch / onnxruntime": round(milliseconds["PyTorch"] / milliseconds["onnxruntime"], 2),
    }


main = cli.Command(build_parser, run)
