"""Convert released Panoptic FPN, RAP and OCFusion models, or the weights they start from.

Released models (maskrcnn-benchmark naming) convert to ours and back. With --initial, SOURCE is an
ImageNet backbone or a Mask R-CNN, as Detectron (.pkl) or maskrcnn-benchmark stores it. Every tensor
is placed or listed as dropped, shapes must agree with the config. Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s R_50.pth checkpoints/panoptic-fpn_r50.pth --config panoptic-fpn_r50_8xb2-150k_coco
  %(prog)s X-101-32x8d.pkl checkpoints/detectron_x101-32x8d.pth --initial \\
      --config panoptic-fpn_x101_8xb2-150k_coco
  %(prog)s work_dirs/NAME/iter_150000.pth theirs.pth --to-published --config CONFIG
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    parser.add(
        "--initial",
        action="store_true",
        help="weights to start from: a backbone, with or without FPN, RPN and heads",
    )
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.rap_keys import RapKeyMap

    return convert_model(args, RapKeyMap)


main = cli.Command(build_parser, run)
