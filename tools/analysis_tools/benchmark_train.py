#!/usr/bin/env python
"""Time training steps and inference on made-up images: images per second by switch.

No dataset is needed. Each switch given is measured off and on: nothing, each one alone, all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmpanoptic.apis import get_config
from mmpanoptic.apis.model import choose_device
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import LabelTable, make_panoptic_data, semantic_map
from mmpanoptic.utils import write_json
from mmpanoptic.utils.cfg_options import ConfigOptions

EXAMPLES = """examples:
  %(prog)s CONFIG --channels-last --amp bf16 --compile --iters 20 --json train.json
  %(prog)s CONFIG --size 512 1024 --batch-size 4 --device cuda --amp fp16

A training step is forward, loss, backward and one step of Adam; inference is the network without
post-processing. The first --warmup iterations (and compilation) do not count.
"""

AMP_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
NUM_CLASSES, NUM_THINGS, NUM_SEGMENTS = 19, 8, 24


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("--size", nargs=2, type=int, default=(512, 1024), metavar=("H", "W"), help="of images")
    add("--batch-size", type=int, default=2, metavar="N", help="images per step (default 2)")
    add("--channels-last", action="store_true", help="switch: weights and images channels last")
    add("--amp", choices=AMP_TYPES, help="switch: autocast")
    add("--compile", action="store_true", help="switch: torch.compile of backbone and heads")
    add("--iters", type=int, default=10, metavar="N", help="steps to time (default 10)")
    add("--warmup", type=int, default=2, metavar="N", help="steps before (default 2)")
    add("--threads", type=int, metavar="N", help="threads of PyTorch (default: as they are)")
    add("--device", help="cpu, cuda, cuda:N (default: cuda if there is one)")
    add("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    args = parser.parse_args(argv)
    for name, least in (("iters", 1), ("warmup", 0), ("batch_size", 1), ("threads", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Time, print a table, write JSON; 1 on an error."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        device = choose_device(args.device)
        cfg = load_config(args)
        rows = [measure(cfg, args, switches, device) for switches in combinations(args)]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_table(rows))
    machine = {"device": str(device), "threads": torch.get_num_threads()}
    machine["torch"] = torch.__version__
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if args.json is not None:
        settings = {"size": list(args.size), "batch_size": args.batch_size, "iters": args.iters}
        content = {"config": str(args.config), **settings, "machine": machine, "figures": rows}
        write_json(args.json, content, indent=1)
    return 0


def load_config(args: argparse.Namespace) -> Config:
    """Read the config; its classes are made up, so that no annotation is needed."""
    cfg = get_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    return resolve_config(cfg, dataset_meta=make_table().to_metainfo())


def make_table() -> LabelTable:
    """Make up as many classes as Cityscapes has."""
    return LabelTable.from_categories(
        [
            {"id": k + 1, "name": f"class {k}", "isthing": int(k >= NUM_CLASSES - NUM_THINGS)}
            for k in range(NUM_CLASSES)
        ]
    )


def combinations(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """List the switches of each row: none, each alone, all."""
    asked = {"channels_last": args.channels_last, "amp": args.amp, "compile": args.compile}
    asked = {name: value for name, value in asked.items() if value}
    yield {}
    if len(asked) > 1:
        for name, value in asked.items():
            yield {name: value}
    if asked:
        yield asked


def measure(
    cfg: Config, args: argparse.Namespace, switches: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """Time training and inference with some switches.

    Returns:
        dict: ``switches`` and images per second ``train`` and ``inference``.
    """
    torch.manual_seed(0)
    init_default_scope("mmpanoptic")
    options = {"channels_last": True} if switches.get("channels_last") else {}
    model = MODELS.build({**cfg.model, **options})
    if device.type == "cpu":
        from mmengine.model import revert_sync_batchnorm

        model = revert_sync_batchnorm(model)
    model = model.to(device)
    batch = model.data_preprocessor(make_batch(args.batch_size, *args.size), training=True)
    if switches.get("compile"):
        model.forward_heads = torch.compile(model.forward_heads)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    dtype = AMP_TYPES.get(switches.get("amp", ""))
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def autocast() -> Any:
        return torch.autocast(device.type, dtype) if dtype else nullcontext()

    def train() -> None:
        with autocast():
            losses = model(**batch, mode="loss")
        optimizer.zero_grad()
        scaler.scale(sum(losses.values())).backward()
        scaler.step(optimizer)
        scaler.update()

    def infer() -> None:
        with torch.no_grad(), autocast():
            model.forward_heads(batch["inputs"])

    speeds = {}
    for name, step in (("train", train), ("inference", infer)):
        model.train(name == "train")
        speeds[name] = args.batch_size / time_steps(step, args, device)
    return {"switches": switches, **speeds}


def time_steps(step: Callable[[], None], args: argparse.Namespace, device: torch.device) -> float:
    """Run a step again and again; return the median of its seconds."""
    seconds = []
    for number in range(args.warmup + args.iters):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= args.warmup:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def make_batch(batch_size: int, height: int, width: int) -> dict[str, Any]:
    """Make up images and panoptic ground truth: a grid of segments of all classes."""
    rng = np.random.default_rng(0)
    images, samples = [], []
    columns = NUM_SEGMENTS // 4
    index = np.arange(height)[:, None] * 4 // height * columns + np.arange(width) * columns // width
    for _ in range(batch_size):
        labels = rng.permutation(np.arange(NUM_SEGMENTS) % NUM_CLASSES)
        segments = [
            {"id": k, "label": int(label), "isthing": bool(label >= NUM_CLASSES - NUM_THINGS)}
            for k, label in enumerate(labels, 1)
        ]
        sample = DetDataSample(metainfo={"img_shape": (height, width)})
        sample.gt_panoptic_seg = make_panoptic_data((index + 1).astype(np.uint8), segments)
        sample.gt_sem_seg = PixelData(sem_seg=semantic_map(sample.gt_panoptic_seg))
        images.append(torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)))
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the figures out, each beside its ratio to the first row."""
    lines = [f"{'images/s':32}{'train':>10}{'':>8}{'inference':>12}{'':>8}"]
    for row in rows:
        names = [key if value is True else str(value) for key, value in row["switches"].items()]
        line = f"{' + '.join(names) or 'plain':32}"
        for name, digits in (("train", 10), ("inference", 12)):
            line += f"{row[name]:>{digits}.3f}{row[name] / rows[0][name]:>7.2f}x"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
