#!/usr/bin/env python
"""Convert ImageNet weights of Xception-65 (SegmenTron's names) to a backbone checkpoint.

Every tensor is placed or listed as dropped; code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import conversion_parser, convert_backbone, run_conversion

EXAMPLES = """
  %(prog)s tf-xception65-270e81cf.pth checkpoints/imagenet_xception65.pth
  %(prog)s x65.pkl checkpoints/imagenet_xception65.pth    as convert-pretrain-model-to-d2.py made it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    args = conversion_parser(__doc__, EXAMPLES).parse_args(argv)
    config = {"type": "Xception"}
    return run_conversion(
        lambda: convert_backbone(args.source, args.out, lambda state: config, args.drop)
    )


if __name__ == "__main__":
    sys.exit(main())
