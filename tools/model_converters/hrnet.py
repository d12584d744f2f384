#!/usr/bin/env python
"""Convert ImageNet weights of HRNet-W18, W32 or W48 (original names) to a backbone checkpoint.

The width is read off the file. Every tensor is placed or listed as dropped; code from the file
never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s hrnetv2_w48_imagenet_pretrained.pth checkpoints/imagenet_hrnet_w48.pth
  %(prog)s h48.pkl checkpoints/imagenet_hrnet_w48.pth  # as convert-pretrain-model-to-d2.py makes
"""
FINEST_BRANCH = "transition1.0.0.weight"


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("source", "weights_out", "drop")
    return parser


def backbone_config(state: Mapping[str, Any]) -> dict[str, Any]:
    """Read the width off the first transition.

    Raises:
        CheckpointMismatchError: If the file is no HRNet.
    """
    from mmpanoptic.checkpoints.key_map import CheckpointMismatchError

    if FINEST_BRANCH not in state:
        raise CheckpointMismatchError(
            f"the checkpoint has no tensor {FINEST_BRANCH}; it holds no HRNet in original naming"
        )
    return {"type": "HRNet", "width": len(state[FINEST_BRANCH])}


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.apis.conversion import convert_backbone

    yield convert_backbone(args.source, args.out, backbone_config, args.drop).report()


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
