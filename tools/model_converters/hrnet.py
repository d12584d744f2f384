#!/usr/bin/env python
"""Convert ImageNet weights of HRNet-W18, W32 or W48 (original names) to a backbone checkpoint.

The width is read off the file. Every tensor is placed or listed as dropped; code from the file
never runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torch import Tensor

from mmpanoptic.apis.conversion import conversion_parser, convert_backbone, run_conversion
from mmpanoptic.checkpoints.key_map import CheckpointMismatchError

EXAMPLES = """
  %(prog)s hrnetv2_w48_imagenet_pretrained.pth checkpoints/imagenet_hrnet_w48.pth
  %(prog)s h48.pkl checkpoints/imagenet_hrnet_w48.pth    as convert-pretrain-model-to-d2.py made it
"""
FINEST_BRANCH = "transition1.0.0.weight"


def backbone_config(state: Mapping[str, Tensor]) -> dict:
    """Read the width off the first transition.

    Raises:
        CheckpointMismatchError: If the file is no HRNet.
    """
    if FINEST_BRANCH not in state:
        raise CheckpointMismatchError(
            f"the checkpoint has no tensor {FINEST_BRANCH}; it holds no HRNet in original naming"
        )
    return {"type": "HRNet", "width": len(state[FINEST_BRANCH])}


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; return the exit status."""
    args = conversion_parser(__doc__, EXAMPLES).parse_args(argv)
    return run_conversion(
        lambda: convert_backbone(args.source, args.out, backbone_config, args.drop)
    )


if __name__ == "__main__":
    sys.exit(main())
