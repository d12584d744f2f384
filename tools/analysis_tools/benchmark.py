#!/usr/bin/env python
"""Time inference of one image after another, split into its stages."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from mmpanoptic.apis import build_test_pipeline, init_model
from mmpanoptic.apis.inferencer import iter_sources
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.utils import write_json
from mmpanoptic.utils.cfg_options import ConfigOptions
from mmpanoptic.utils.format_errors import PanopticFormatError

EXAMPLES = """examples:
  %(prog)s CONFIG CHECKPOINT --images data/shapes/val
  %(prog)s CONFIG CHECKPOINT --images photos/ --num 200 --threads 1 --json latency.json
  %(prog)s CONFIG --images photos/ --no-post --device cuda --amp fp16
  %(prog)s CONFIG --images photos/ --compile --cfg-options model.channels_last=True

stages: decode (read and decode the file), preprocess (rest of the test pipeline, copy to the
device, normalise, pad), network (up to the heads' outputs), postprocess (to the panoptic map at
the image's size). Batches have one image. A CUDA device is waited for after each stage.
"""

STAGES = ("decode", "preprocess", "network", "postprocess")
COMPILED = ("backbone", "neck", "semantic_head", "instance_head")
"""Parts of a model without data-dependent Python."""
AMP_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}

Times = dict[str, list[float]]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("checkpoint", metavar="CHECKPOINT", nargs="?", help="weights (default: random ones)")
    add(
        "--images",
        metavar="PATH",
        help="an image or a folder (default: folder of the config's test set)",
    )
    add("--num", type=int, default=50, help="images to time; fewer files are repeated (default 50)")
    add("--warmup", type=int, default=5, help="images to run before (default 5)")
    add("--threads", type=int, help="threads of PyTorch and OpenCV (default: as they are)")
    add("--device", help="cpu, cuda, cuda:N (default: cuda if there is one)")
    add("--amp", choices=AMP_TYPES, help="run network and post-processing under autocast")
    add("--compile", action="store_true", help="compile the network's parts with torch.compile")
    add("--no-post", action="store_true", help="leave post-processing out")
    add("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    add("--trust", action="store_true", help="accept checkpoints of mmengine, mmdet and mmseg")
    args = parser.parse_args(argv)
    for name, least in (("num", 1), ("warmup", 0), ("threads", 1)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(args, name)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Time, print a table, write JSON; 1 on an error."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    try:
        model = init_model(args.config, args.checkpoint, args.device, args.cfg_options, args.trust)
        images = args.images or test_folder(model.cfg)
        for part in COMPILED if args.compile else ():
            if getattr(model, part, None) is not None:
                getattr(model, part).compile()
        figures = summarise(measure(model, images, args))
    except (CheckpointError, PanopticFormatError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    machine = describe_machine(next(model.parameters()).device)
    print(format_table(figures))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if args.checkpoint is None and not args.no_post:
        print(
            "note: random weights; post-processing depends on what the model finds, so its times "
            "say little without a checkpoint"
        )
    if args.json is not None:
        write_json(args.json, report(args, images, machine, figures), indent=1)
    return 0


def test_folder(cfg: Any) -> str:
    """Return the image folder of the config's test set.

    Raises:
        ValueError: If the config names none.
    """
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    folder = (dataset.get("data_prefix") or {}).get("img")
    if folder is None:
        raise ValueError("the config names no folder of test images; use --images PATH")
    return str(Path(dataset.get("data_root") or "") / folder)


class Clock:
    """Time stages; a CUDA device is waited for, so that each stage pays for its own work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function and note the seconds."""
        start = time.perf_counter()
        result = function(*arguments)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[stage] = time.perf_counter() - start
        return result


@torch.inference_mode()
def measure(model: Any, images: str, args: argparse.Namespace) -> Times:
    """Run over the images.

    Args:
        model (PanopticSegmentor): In evaluation mode.
        images (str): Image or folder.
        args (argparse.Namespace): ``num``, ``warmup``, ``no_post``, ``amp``.

    Returns:
        dict[str, list[float]]: Seconds of each image by stage.
    """
    device = next(model.parameters()).device
    pipeline = build_test_pipeline(model.cfg).transforms
    stages = STAGES[:3] if args.no_post else STAGES
    times: Times = {stage: [] for stage in stages}
    autocast = torch.autocast(device.type, AMP_TYPES[args.amp]) if args.amp else nullcontext()
    for number, sample in enumerate(_samples(images, args.warmup + args.num)):
        clock = Clock(device)
        loaded = clock.time("decode", pipeline[0], sample)
        batch = clock.time("preprocess", _prepare, model, pipeline[1:], loaded)
        with autocast:
            outputs = clock.time(
                "network", model.forward_heads, batch["inputs"], batch["data_samples"]
            )
            if not args.no_post:
                clock.time("postprocess", model.postprocess, outputs, batch["data_samples"])
        if number >= args.warmup:
            for stage in stages:
                times[stage].append(clock.seconds[stage])
    return times


def _samples(images: str, number: int) -> Iterator[dict[str, Any]]:
    sources = list(iter_sources(images))
    return (source.to_sample() for source in islice(cycle(sources), number))


def _prepare(model: Any, steps: Sequence[Callable[[Any], Any]], sample: Any) -> dict[str, Any]:
    for step in steps:
        sample = step(sample)
    batch: dict[str, Any] = model.data_preprocessor(pseudo_collate([sample]), False)
    return batch


def summarise(times: Times) -> dict[str, dict[str, float]]:
    """Compute milliseconds: mean, median and 95th percentile of each stage and of the total."""
    stages = {stage: np.array(seconds) * 1e3 for stage, seconds in times.items()}
    stages["total"] = np.sum(list(stages.values()), axis=0)
    return {
        stage: {
            "mean": float(values.mean()),
            "p50": float(np.percentile(values, 50)),
            "p95": float(np.percentile(values, 95)),
        }
        for stage, values in stages.items()
    }


def format_table(figures: dict[str, dict[str, float]]) -> str:
    """Lay the figures out as a table."""
    lines = [f"{'ms an image':12}{'mean':>10}{'p50':>10}{'p95':>10}{'share':>8}"]
    whole = figures["total"]["mean"]
    for stage, row in figures.items():
        values = "".join(f"{row[key]:>10.2f}" for key in ("mean", "p50", "p95"))
        lines.append(f"{stage:12}{values}{row['mean'] / whole:>8.0%}")
    return "\n".join(lines)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Name what the figures depend on."""
    cuda = device.type == "cuda"
    name = (
        torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    )
    return {
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "peak_memory_mib": _peak_memory(device),
    }


def _peak_memory(device: torch.device) -> int | None:
    """Return the device's peak allocation, or on the CPU the process's peak resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def report(
    args: argparse.Namespace,
    images: str,
    machine: dict[str, Any],
    figures: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """Collect what the JSON holds."""
    return {
        "config": str(args.config),
        "checkpoint": args.checkpoint,
        "images": str(images),
        "num": args.num,
        "amp": args.amp,
        "compile": args.compile,
        "machine": machine,
        "milliseconds": figures,
    }


if __name__ == "__main__":
    sys.exit(main())
