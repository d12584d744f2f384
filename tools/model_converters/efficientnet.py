#!/usr/bin/env python
"""Convert ImageNet weights of an EfficientNet (timm or efficientnet_pytorch) to a backbone.

Squeeze-and-excitation and the classifier are dropped; every other tensor is placed or listed as
dropped. Code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s tf_efficientnet_b5_ra-9a3e5369.pth checkpoints/imagenet_efficientnet_b5.pth
  %(prog)s efficientnet-b0-355c32eb.pth checkpoints/imagenet_efficientnet_b0.pth --arch b0
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("source", "weights_out", "drop")
    parser.add("--arch", default="b5", help="b0 to b8; default: b5")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.apis.conversion import convert_backbone
    from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap

    config = {"type": "LeakyEfficientNet", "arch": args.arch}
    yield convert_backbone(
        args.source, args.out, lambda state: config, args.drop, EfficientPSKeyMap
    ).report()


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
