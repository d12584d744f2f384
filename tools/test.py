#!/usr/bin/env python
"""Test a checkpoint: print the tables of the config's metrics.

Several processes: tools/dist_test.sh CONFIG CHECKPOINT NUMBER. Slurm: tools/slurm_test.sh.
"""

from __future__ import annotations

import argparse
import sys

from mmengine.config import Config

from mmpanoptic.apis import find_config
from mmpanoptic.engine.commands import (
    add_common_arguments,
    build_runner,
    read_config,
    run_command,
    set_predictions_folder,
    use_test_time_augmentation,
)

EXAMPLES = """examples:
  %(prog)s CONFIG work_dirs/NAME/iter_2000.pth --show-dir pictures
  %(prog)s CONFIG CHECKPOINT --out predictions   JSON and PNGs in COCO-panoptic format
  tools/analysis_tools/eval_panoptic.py evaluates such predictions again.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help="config file, or name of a shipped config")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="weights")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write the predictions of every metric that can here: predictions.panoptic.json and "
        "predictions.panoptic/*.png (PQ), predictions.semantic/ and predictions.instance/ "
        "(Cityscapes' benchmark), predictions.bbox.json and predictions.segm.json (COCO's)",
    )
    parser.add_argument(
        "--format-only",
        action="store_true",
        help="write the files of --out for a test server and compute nothing; images need no "
        "annotation",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="average over scales and flips, as tta_pipeline and tta_model of the config say "
        "(default: the image and its mirror image)",
    )
    parser.add_argument("--show-dir", metavar="FOLDER", help="write pictures here")
    parser.add_argument("--show", action="store_true", help="show pictures in a window")
    parser.add_argument(
        "--wait-time", type=float, default=2, help="seconds per picture (default 2)"
    )
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    if args.format_only and not args.out:
        parser.error("--format-only writes files; say where with --out FOLDER")
    return args


def adapt_config(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the arguments of testing to the config."""
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.tta:
        use_test_time_augmentation(cfg)
    if args.out:
        set_predictions_folder(cfg, args.out, args.format_only)
    if args.show or args.show_dir:
        hooks = dict(cfg.get("default_hooks", {}))
        hooks["visualization"] = {
            "type": "PanopticVisualizationHook",
            "draw": True,
            "show": args.show,
            "wait_time": args.wait_time,
            "out_dir": args.show_dir,
        }
        cfg.default_hooks = hooks


def test(args: argparse.Namespace) -> None:
    """Test as the arguments say."""
    cfg = read_config(find_config(args.config), args)
    adapt_config(cfg, args)
    build_runner(cfg).test()


def main(argv: list[str] | None = None) -> int:
    """Test; return the exit status."""
    args = parse_args(argv)
    return run_command(lambda: test(args))


if __name__ == "__main__":
    sys.exit(main())
