#!/usr/bin/env python
"""Convert detectron2's ImageNet weights of ResNet-52 (DeepLab stem) to a backbone checkpoint.

Every tensor is placed or listed as dropped; code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s R-52.pkl checkpoints/imagenet_r52.pth
"""
BACKBONE = {"type": "DeepLabResNet", "depth": 50, "stem_channels": 128}


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("source", "weights_out", "drop")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.apis.conversion import convert_backbone

    yield convert_backbone(args.source, args.out, lambda state: BACKBONE, args.drop).report()


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
