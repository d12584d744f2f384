"""Convert a checkpoint of the EfficientPS authors (Mask R-CNN head) to ours.

The scale of in-place ABN becomes that of a plain batch norm, the background class moves to the
last place. Every tensor is placed or listed as dropped, and shapes must agree with the config.
Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s efficientPS_cityscapes/model/model.pth checkpoints/efficientps_cityscapes.pth \\
      --config efficientps-maskrcnn-released_b5_16xb1-30k_cityscapes
  %(prog)s model.pth start.pth --new-classes --config CONFIG
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap

    return convert_model(args, EfficientPSKeyMap)


main = cli.Command(build_parser, run)
