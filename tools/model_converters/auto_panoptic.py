#!/usr/bin/env python
"""Convert a released Auto-Panoptic or DetNAS model to ours.

Four layouts are known: ImageNet classifiers and panoptic models, each as supernet and as searched
network. Every tensor is placed or listed as dropped, and shapes must agree with the config. A
classifier and the config of a panoptic model give a backbone to start from. Code from the file
never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import convert_model_command, model_parser
from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap

EXAMPLES = """
  %(prog)s autopanoptic.pth checkpoints/auto-panoptic_coco.pth \\
      --config auto-panoptic_coco-3.8g_8xb2-90k_coco
  %(prog)s autopanoptic_imagenet.pkl checkpoints/imagenet_coco-3.8g.pth \\
      --config auto-panoptic_coco-3.8g_8xb2-90k_coco
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    return convert_model_command(model_parser(__doc__, EXAMPLES), argv, AutoPanopticKeyMap)


if __name__ == "__main__":
    sys.exit(main())
