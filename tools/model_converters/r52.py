#!/usr/bin/env python
"""Convert detectron2's ImageNet weights of ResNet-52 (DeepLab stem) to a backbone checkpoint.

Every tensor is placed or listed as dropped; code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import conversion_parser, convert_backbone, run_conversion

EXAMPLES = """
  %(prog)s R-52.pkl checkpoints/imagenet_r52.pth
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    args = conversion_parser(__doc__, EXAMPLES).parse_args(argv)
    config = {"type": "DeepLabResNet", "depth": 50, "stem_channels": 128}
    return run_conversion(
        lambda: convert_backbone(args.source, args.out, lambda state: config, args.drop)
    )


if __name__ == "__main__":
    sys.exit(main())
