"""Convert ImageNet weights to the backbone of a config.

Configs need no such step: load_from and init_cfg take published files and addresses as they are.
Known are the names of detectron2, torchvision, timm, mmpretrain, SegmenTron (Xception), the authors
of HRNet, and efficientnet_pytorch. Every tensor is placed or listed as dropped (classifiers,
squeeze-and-excitation), and shapes must agree. Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s R-52.pkl imagenet_r52.pth --config panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024
  %(prog)s timm://tf_efficientnet_b5.ra_in1k b5.pth \\
      --config efficientps-maskrcnn_b5_16xb1-50k_cityscapes
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.backbone_keys import BackboneKeyMap

    return convert_model(args, BackboneKeyMap)


main = cli.Command(build_parser, run)
