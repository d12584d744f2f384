"""Fuse saved instances with a semantic model and print the tables of the config's metrics.

The semantic model is the backbone, neck and semantic head of any config; other parts of it are
not built. Instances are found by the ids of the images, whatever their files are called.
"""

from __future__ import annotations

import argparse
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s efficientps-solov2_b5_16xb1-30k_cityscapes CHECKPOINT instances/
  %(prog)s deeplabv3plus_r18-tiny_1xb8-1k_shapes CHECKPOINT instances/ --out-dir predictions
  tools/save_instances.py makes the instances.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.take("checkpoint", help="weights of the semantic model", nargs=None)
    parser.add("instances", metavar="INSTANCES", help="folder of tools/save_instances.py")
    parser.add(
        "--allow-missing",
        action="store_true",
        help="images without saved instances get none; without this they are an error",
    )
    parser.add(
        "--binary-logit",
        type=float,
        default=4.0,
        help="logit of the masks of instances that were saved with --no-logits (default 4)",
    )
    parser.add(
        "--score-thr",
        type=float,
        help="instances score at least this (default: of the config; 0.3 if it fuses nothing)",
    )
    parser.add(
        "--stuff-area",
        type=cli.at_least(0),
        help="smallest stuff segment in pixels (default: of the config; 2048 if it fuses nothing)",
    )
    parser.add(
        "--out-dir",
        old=["--out"],
        metavar="FOLDER",
        help="write the predictions of every metric that can here",
    )
    parser.add("--show-dir", metavar="FOLDER", help="write pictures here")
    parser.take(*cli.RUN_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> None:
    """Test the semantic model with the saved instances."""
    from mmpanoptic.apis.offline_fusion import load_semantic_part, use_saved_instances
    from mmpanoptic.engine import testing
    from mmpanoptic.models.postprocess.instance_files import find_instance_files
    from mmpanoptic.registry import RUNNERS

    find_instance_files(args.instances)
    cfg = cli.read_run_config(args)
    given = {"score_thr": args.score_thr, "stuff_area": args.stuff_area}
    options = {name: value for name, value in given.items() if value is not None}
    whole = cfg.copy()
    cfg = use_saved_instances(cfg, args.instances, args.allow_missing, args.binary_logit, options)
    cfg.load_from, cfg.resume = None, False
    if args.out_dir:
        testing.set_predictions_folder(cfg, args.out_dir, False)
    if args.show_dir:
        testing.draw_predictions(cfg, args.show_dir)
    with cli.run_console(args):
        runner: Any = RUNNERS.build(cfg)
        model = getattr(runner.model, "module", runner.model)  # inside DistributedDataParallel
        load_semantic_part(model, args.checkpoint, whole, args.trust)
        runner.test()


main = cli.Command(build_parser, run)
