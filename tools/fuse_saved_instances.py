#!/usr/bin/env python
"""Fuse saved instances with a semantic model and print the tables of the config's metrics.

The semantic model is the backbone, neck and semantic head of any config; other parts of it are
not built. Instances are found by the ids of the images, whatever their files are called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from mmpanoptic.apis import find_config
from mmpanoptic.apis.offline_fusion import load_semantic_part, use_saved_instances
from mmpanoptic.engine.commands import (
    add_common_arguments,
    build_runner,
    read_config,
    run_command,
    set_predictions_folder,
)
from mmpanoptic.models.postprocess.instance_files import find_instance_files

EXAMPLES = """examples:
  %(prog)s efficientps-solov2_b5_16xb1-30k_cityscapes CHECKPOINT instances/
  %(prog)s deeplabv3plus_r18-tiny_1xb8-1k_shapes CHECKPOINT instances/ --out predictions
  tools/save_instances.py makes the instances.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("checkpoint", metavar="CHECKPOINT", help="weights of the semantic model")
    add("instances", metavar="INSTANCES", help="folder of tools/save_instances.py")
    add(
        "--allow-missing",
        action="store_true",
        help="images without saved instances get none; without this they are an error",
    )
    add(
        "--binary-logit",
        type=float,
        default=4.0,
        help="logit of the masks of instances that were saved with --no-logits (default 4)",
    )
    add(
        "--score-thr",
        type=float,
        help="instances score at least this (default: of the config; 0.3 if it fuses nothing)",
    )
    add(
        "--stuff-area",
        type=int,
        help="smallest stuff segment in pixels (default: of the config; 2048 if it fuses nothing)",
    )
    add("--out", metavar="FOLDER", help="write the predictions of every metric that can here")
    add("--show-dir", metavar="FOLDER", help="write pictures here")
    add_common_arguments(parser)
    return parser.parse_args(argv)


def fuse(args: argparse.Namespace) -> None:
    """Test the semantic model with the saved instances."""
    cfg = read_config(find_config(args.config), args)
    given = {"score_thr": args.score_thr, "stuff_area": args.stuff_area}
    options = {name: value for name, value in given.items() if value is not None}
    cfg = use_saved_instances(cfg, args.instances, args.allow_missing, args.binary_logit, options)
    cfg.load_from, cfg.resume = None, False
    if args.out:
        set_predictions_folder(cfg, args.out, False)
    if args.show_dir:
        cfg.default_hooks.visualization = {
            "type": "PanopticVisualizationHook",
            "draw": True,
            "out_dir": args.show_dir,
        }
    runner: Any = build_runner(cfg)
    model = getattr(runner.model, "module", runner.model)  # inside DistributedDataParallel
    load_semantic_part(model, args.checkpoint, args.trust)
    runner.test()


def main(argv: Sequence[str] | None = None) -> int:
    """Fuse; return the exit status."""
    args = parse_args(argv)
    try:
        find_instance_files(args.instances)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return run_command(lambda: fuse(args))


if __name__ == "__main__":
    sys.exit(main())
