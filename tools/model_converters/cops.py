#!/usr/bin/env python
"""Convert a released COPS model (naming of its detectron2 fork) to ours, or back.

Every tensor is placed or listed as dropped, shapes must agree with the config, and an input
normalisation in the file must be the config's. Code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import convert_model_command, model_parser
from mmpanoptic.checkpoints.cops_keys import CopsKeyMap

EXAMPLES = """
  %(prog)s cityscapes/model_0002999.pth checkpoints/cops_cityscapes.pth \\
      --config cops_r52_e2e_1xb24-20k_cityscapes-512x1024
  %(prog)s pretrained.pth start.pth --new-classes --config CONFIG
  %(prog)s work_dirs/NAME/iter_20000.pth for_detectron2.pth --to-published --config CONFIG
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    parser = model_parser(__doc__, EXAMPLES)
    return convert_model_command(parser, argv, CopsKeyMap)


if __name__ == "__main__":
    sys.exit(main())
