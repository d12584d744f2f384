#!/usr/bin/env python
"""Convert a checkpoint of the EfficientPS authors (Mask R-CNN head) to ours.

The scale of in-place ABN becomes that of a plain batch norm, the background class moves to the
last place. Every tensor is placed or listed as dropped, and shapes must agree with the config.
Code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import convert_model_command, model_parser
from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap

EXAMPLES = """
  %(prog)s efficientPS_cityscapes/model/model.pth checkpoints/efficientps_cityscapes.pth \\
      --config efficientps-maskrcnn-released_b5_16xb1-30k_cityscapes
  %(prog)s model.pth start.pth --new-classes --config CONFIG
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    parser = model_parser(__doc__, EXAMPLES)
    return convert_model_command(parser, argv, EfficientPSKeyMap)


if __name__ == "__main__":
    sys.exit(main())
