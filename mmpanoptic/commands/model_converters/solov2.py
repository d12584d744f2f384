"""Convert a released SOLOv2 model (WXinlong/SOLO or mmdetection) to ours, or back.

Every tensor is placed or listed as dropped, shapes must agree with the config, and an input
normalisation in the file must be the config's. Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s SOLOv2_R50_3x.pth checkpoints/solov2_r50.pth --config solov2_r50_8xb2-270k_coco
  %(prog)s solov2_r50_fpn_1x_coco_20220512_125858-a357fa23.pth checkpoints/solov2_r50.pth \\
      --config solov2_r50_8xb2-90k_coco
  %(prog)s SOLOv2_LIGHT_448_R34_3x.pth start.pth --new-classes \\
      --config solov2-light_r34_1xb2-60k_cityscapes
  %(prog)s work_dirs/NAME/iter_90000.pth for_solo.pth --to-published --config CONFIG
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.solov2_keys import SOLOv2KeyMap

    return convert_model(args, SOLOv2KeyMap)


main = cli.Command(build_parser, run)
