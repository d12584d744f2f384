"""Test a checkpoint: print the tables of the config's metrics.

Several processes: tools/dist_test.sh CONFIG CHECKPOINT NUMBER. Slurm: tools/slurm_test.sh.
"""

from __future__ import annotations

import argparse

from mmpanoptic import cli
from mmpanoptic.utils import threads

EXAMPLES = """
  %(prog)s CONFIG work_dirs/NAME/iter_2000.pth --show-dir pictures
  %(prog)s work_dirs/NAME                    # a run: its own config, its best or newest weights
  %(prog)s CONFIG CHECKPOINT --out-dir predictions   # JSON and PNGs in COCO-panoptic format
  %(prog)s CONFIG CHECKPOINT --per-image images.csv  # PQ, SQ, RQ and counts of every image
  tools/analysis_tools/eval_panoptic.py evaluates such predictions again.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "checkpoint")
    parser.add(
        "--out-dir",
        old=["--out"],
        metavar="FOLDER",
        help="write the predictions of every metric that can here: predictions.panoptic.json and "
        "predictions.panoptic/*.png (PQ), predictions.semantic/ and predictions.instance/ "
        "(Cityscapes' benchmark), predictions.bbox.json and predictions.segm.json (COCO's)",
    )
    parser.add(
        "--format-only",
        action="store_true",
        help="write the files of --out-dir for a test server and compute nothing; images need no "
        "annotation",
    )
    parser.take("per_image")
    parser.add(
        "--tta",
        action="store_true",
        help="average over scales and flips, as tta_pipeline and tta_model of the config say "
        "(default: the image and its mirror image)",
    )
    parser.add("--show-dir", metavar="FOLDER", help="write pictures here")
    parser.add("--show", action="store_true", help="show pictures in a window")
    parser.add(
        "--wait-time",
        type=cli.at_least(0, float),
        default=2.0,
        help="seconds per picture (default 2)",
    )
    parser.take(*cli.RUN_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> None:
    """Test as the arguments say."""
    if args.format_only and not args.out_dir:
        raise cli.UsageError("--format-only writes files; say where with --out-dir FOLDER")
    if args.format_only and args.per_image:
        raise cli.UsageError("--format-only computes nothing, so there is nothing for --per-image")
    threads.settle()
    from mmpanoptic.engine import testing
    from mmpanoptic.registry import RUNNERS

    cli.complete_model(args)
    cfg = cli.read_run_config(args)
    cfg.load_from, cfg.resume, cfg.stored_sizes = args.checkpoint, False, True
    if args.tta:
        testing.use_test_time_augmentation(cfg)
    if args.out_dir:
        testing.set_predictions_folder(cfg, args.out_dir, args.format_only)
    if args.per_image:
        testing.set_per_image_table(cfg, args.per_image)
    if args.show or args.show_dir:
        testing.draw_predictions(cfg, args.show_dir, args.show, args.wait_time)
    with cli.run_console(args):
        RUNNERS.build(cfg).test()


main = cli.Command(build_parser, run)
