#!/usr/bin/env python
"""Convert a released Panoptic-DeepLab or DeepLabV3+ model (detectron2 naming) to ours, or back.

Every tensor is placed or listed as dropped, shapes must agree with the config, and an input
normalisation in the file must be the config's. Code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import convert_model_command, model_parser
from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap

EXAMPLES = """
  %(prog)s model_final_bd324a.pkl r52.pth \\
      --config panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024
  %(prog)s model_final_5e6da2.pkl start.pth --new-classes \\
      --config panoptic-deeplab_r52-dsconv_1xb8-20k_own-640x640 --cfg-options data_root=data/own
  %(prog)s work_dirs/NAME/iter_90000.pth for_detectron2.pth --to-published --config CONFIG
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    parser = model_parser(__doc__, EXAMPLES)
    return convert_model_command(parser, argv, PanopticDeepLabKeyMap)


if __name__ == "__main__":
    sys.exit(main())
