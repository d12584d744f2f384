#!/usr/bin/env python
"""Convert ImageNet weights to the backbone of a config.

Configs need no such step: load_from and init_cfg take published files and addresses as they are.
Known are the names of detectron2, torchvision, timm, mmpretrain, SegmenTron (Xception), the authors
of HRNet, and efficientnet_pytorch. Every tensor is placed or listed as dropped (classifiers,
squeeze-and-excitation), and shapes must agree. Code from the file never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmpanoptic.apis.conversion import convert_model_command, model_parser
from mmpanoptic.checkpoints.backbone_keys import BackboneKeyMap

EXAMPLES = """
  %(prog)s R-52.pkl imagenet_r52.pth --config panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024
  %(prog)s timm://tf_efficientnet_b5.ra_in1k b5.pth \\
      --config efficientps-maskrcnn_b5_16xb1-50k_cityscapes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    return convert_model_command(model_parser(__doc__, EXAMPLES), argv, BackboneKeyMap)


if __name__ == "__main__":
    sys.exit(main())
