#!/usr/bin/env python
"""Convert ImageNet weights of an EfficientNet (timm or efficientnet_pytorch) to a backbone.

Squeeze-and-excitation and the classifier are dropped; every other tensor is placed or listed as
dropped. Code from the file never runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import conversion_parser, convert_backbone, run_conversion
from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap

EXAMPLES = """
  %(prog)s tf_efficientnet_b5_ra-9a3e5369.pth checkpoints/imagenet_efficientnet_b5.pth
  %(prog)s efficientnet-b0-355c32eb.pth checkpoints/imagenet_efficientnet_b0.pth --arch b0
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = conversion_parser(__doc__, EXAMPLES)
    parser.add_argument("--arch", default="b5", help="b0 to b8; default: b5")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    args = parse_args(argv)
    config = {"type": "LeakyEfficientNet", "arch": args.arch}
    return run_conversion(
        lambda: convert_backbone(
            args.source, args.out, lambda state: config, args.drop, EfficientPSKeyMap
        )
    )


if __name__ == "__main__":
    sys.exit(main())
