"""Tell how often a relation or occlusion head orders overlapping instances rightly."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s configs/rap/rap_r18-tiny_relation-finetune_1xb8-2k_shapes.py iter_2000.pth \\
      data/shapes/annotations/instances_val_with_relation.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "checkpoint")
    parser.add(
        "instances",
        type=Path,
        metavar="INSTANCES_JSON",
        help="instance JSON of the test images with the field overlap",
    )
    parser.add(
        "--iou-thr", type=cli.at_least(0, float), default=0.5, help="of matches (default: 0.5)"
    )
    parser.take("device", "json", "cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Evaluate all images of the test dataset."""
    from mmpanoptic.apis.relation_accuracy import order_report

    show = partial(cli.track, label="relations")
    report = order_report(cli.load_model(args), args.instances, args.iou_thr, show)
    yield report.describe()
    cli.save_json(args, report.to_dict())


main = cli.Command(build_parser, run)
