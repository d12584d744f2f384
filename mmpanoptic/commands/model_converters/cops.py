"""Convert a released COPS model (naming of its detectron2 fork) to ours, or back.

Every tensor is placed or listed as dropped, shapes must agree with the config, and an input
normalisation in the file must be the config's. Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s cityscapes/model_0002999.pth checkpoints/cops_cityscapes.pth \\
      --config cops_r52_e2e_1xb24-20k_cityscapes-512x1024
  %(prog)s pretrained.pth start.pth --new-classes --config CONFIG
  %(prog)s work_dirs/NAME/iter_20000.pth for_detectron2.pth --to-published --config CONFIG
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.cops_keys import CopsKeyMap

    return convert_model(args, CopsKeyMap)


main = cli.Command(build_parser, run)
