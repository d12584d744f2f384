#!/usr/bin/env python
"""Convert ImageNet weights of Xception-65 (SegmenTron's names) to a backbone checkpoint.

Every tensor is placed or listed as dropped; code from the file never runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s tf-xception65-270e81cf.pth checkpoints/imagenet_xception65.pth
  %(prog)s x65.pkl checkpoints/imagenet_xception65.pth  # as convert-pretrain-model-to-d2.py makes
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("source", "weights_out", "drop")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Convert."""
    from mmpanoptic.apis.conversion import convert_backbone

    yield convert_backbone(
        args.source, args.out, lambda state: {"type": "Xception"}, args.drop
    ).report()


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
