"""Time inference of one image after another, split into its stages."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s CONFIG CHECKPOINT --images data/shapes/val
  %(prog)s CONFIG CHECKPOINT --images photos/ --num 200 --threads 1 --json latency.json
  %(prog)s CONFIG --images photos/ --no-post --device cuda --amp fp16
  %(prog)s CONFIG --images photos/ --compile --cfg-options model.channels_last=True

stages: decode (read and decode the file), preprocess (rest of the test pipeline, copy to the
device, normalise, pad), network (up to the heads' outputs), postprocess (to the panoptic map at
the image's size). Batches have one image. A CUDA device is waited for after each stage.
"""
COMPILED = ("backbone", "neck", "semantic_head", "instance_head")
"""Parts of a model without data-dependent Python."""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.take("checkpoint", nargs="?", help="weights (default: random ones)")
    parser.add(
        "--images",
        metavar="PATH",
        help="an image or a folder (default: folder of the config's test set)",
    )
    at_least = cli.at_least
    parser.add("--num", type=at_least(1), default=50, help="images to time (default 50)")
    parser.add("--warmup", type=at_least(0), default=5, help="images to run before (default 5)")
    parser.take("threads", "device")
    parser.add(
        "--amp", choices=("fp16", "bf16"), help="run network and post-processing under autocast"
    )
    parser.add("--compile", action="store_true", help="compile the network's parts")
    parser.add("--no-post", action="store_true", help="leave post-processing out")
    parser.take("json", "cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Time, print a table, write JSON."""
    from mmpanoptic.apis.speed import describe_machine, time_inference

    model: Any = cli.load_model(args, may_be_random=True)
    images = args.images or test_folder(model.cfg)
    for part in COMPILED if args.compile else ():
        if getattr(model, part, None) is not None:
            getattr(model, part).compile()
    show = partial(cli.track, label="images", total=args.warmup + args.num)
    figures = time_inference(model, images, args.num, args.warmup, not args.no_post, args.amp, show)
    machine = describe_machine(next(model.parameters()).device)
    yield format_table(figures)
    yield ", ".join(f"{key} {value}" for key, value in machine.items())
    if args.checkpoint is None and not args.no_post:
        yield (
            "note: random weights; post-processing depends on what the model finds, so its times "
            "say little without a checkpoint"
        )
    given = {key: getattr(args, key) for key in ("checkpoint", "num", "amp", "compile")}
    content = {"config": args.config, "images": images, **given, "machine": machine}
    cli.save_json(args, {**content, "milliseconds": figures})


def test_folder(cfg: Any) -> str:
    """Return the image folder of the config's test set.

    Raises:
        UsageError: If the config names none.
    """
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    folder = (dataset.get("data_prefix") or {}).get("img")
    if folder is None:
        raise cli.UsageError("the config names no folder of test images; use --images PATH")
    return str(Path(dataset.get("data_root") or "") / folder)


def format_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Lay the figures out as a table."""
    lines = [f"{'ms an image':12}{'mean':>10}{'p50':>10}{'p95':>10}{'share':>8}"]
    whole = figures["total"]["mean"]
    for stage, row in figures.items():
        values = "".join(f"{row[key]:>10.2f}" for key in ("mean", "p50", "p95"))
        lines.append(f"{stage:12}{values}{row['mean'] / whole:>8.0%}")
    return "\n".join(lines)


main = cli.Command(build_parser, run)
