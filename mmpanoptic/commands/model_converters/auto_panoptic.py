"""Convert a released Auto-Panoptic or DetNAS model to ours.

Four layouts are known: ImageNet classifiers and panoptic models, each as supernet and as searched
network. Every tensor is placed or listed as dropped, and shapes must agree with the config. A
classifier and the config of a panoptic model give a backbone to start from. Code from the file
never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

from . import convert_model

EXAMPLES = """
  %(prog)s autopanoptic.pth checkpoints/auto-panoptic_coco.pth \\
      --config auto-panoptic_coco-3.8g_8xb2-90k_coco
  %(prog)s autopanoptic_imagenet.pkl checkpoints/imagenet_coco-3.8g.pth \\
      --config auto-panoptic_coco-3.8g_8xb2-90k_coco
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take(*cli.CONVERSION_ARGUMENTS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap

    return convert_model(args, AutoPanopticKeyMap)


main = cli.Command(build_parser, run)
