"""Cut the things of a panoptic set into one folder of images per class, to pretrain backbones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.thing_crops import cut_things

EXAMPLES = """
  %(prog)s data/shapes/annotations/panoptic_train.json data/shapes/train data/shapes-crops/train
  %(prog)s data/shapes/annotations/panoptic_val.json data/shapes/val data/shapes-crops/val
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of the images")
    parser.add_argument("out", type=Path, metavar="OUT", help="receives a folder per class")
    parser.add_argument(
        "--margin", type=float, default=0.1, help="added on every side (default %(default)s)"
    )
    parser.add_argument(
        "--min-side", type=int, default=8, help="smallest thing in pixels (default %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Cut and say what was done; return the exit status."""
    args = parse_args(argv)
    return report(
        lambda: cut_things(args.json, args.images, args.out, args.margin, args.min_side, args.nproc)
    )


if __name__ == "__main__":
    sys.exit(main())
