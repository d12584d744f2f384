#!/usr/bin/env python
"""Convert released Panoptic FPN, RAP and OCFusion models, or the weights they start from.

Released models (maskrcnn-benchmark naming) convert to ours and back. With --initial, SOURCE is an
ImageNet backbone or a Mask R-CNN, as Detectron (.pkl) or maskrcnn-benchmark stores it. Every tensor
is placed or listed as dropped, shapes must agree with the config. Code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import convert_model_command, model_parser
from mmpanoptic.checkpoints.rap_keys import RapKeyMap

EXAMPLES = """
  %(prog)s R_50.pth checkpoints/panoptic-fpn_r50.pth --config panoptic-fpn_r50_8xb2-150k_coco
  %(prog)s X-101-32x8d.pkl checkpoints/detectron_x101-32x8d.pth --initial \\
      --config panoptic-fpn_x101_8xb2-150k_coco
  %(prog)s work_dirs/NAME/iter_150000.pth theirs.pth --to-published --config CONFIG
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    parser = model_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--initial",
        action="store_true",
        help="weights to start from: a backbone, with or without FPN, RPN and heads",
    )
    return convert_model_command(parser, argv, RapKeyMap)


if __name__ == "__main__":
    sys.exit(main())
