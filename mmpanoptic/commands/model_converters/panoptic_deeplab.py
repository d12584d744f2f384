"""Convert a released Panoptic-DeepLab or DeepLabV3+ model (detectron2 naming) to ours, or back.

Every tensor is placed or listed as dropped, shapes must agree with the config, and an input
normalisation in the file must be the config's. Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s model_final_bd324a.pkl r52.pth \\
      --config panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024
  %(prog)s model_final_5e6da2.pkl start.pth --new-classes \\
      --config panoptic-deeplab_r52-dsconv_1xb8-20k_own-640x640 --cfg-options data_root=data/own
  %(prog)s work_dirs/NAME/iter_90000.pth for_detectron2.pth --to-published --config CONFIG
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap

    return convert_model(args, PanopticDeepLabKeyMap)


main = cli.Command(build_parser, run)
