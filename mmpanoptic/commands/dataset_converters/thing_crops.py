"""Cut the things of a panoptic set into one folder of images per class, to pretrain backbones."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.thing_crops import cut_things

EXAMPLES = """
  %(prog)s data/shapes/annotations/panoptic_train.json data/shapes/train data/shapes-crops/train
  %(prog)s data/shapes/annotations/panoptic_val.json data/shapes/val data/shapes-crops/val
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add("images", type=Path, metavar="IMAGES", help="folder of the images")
    parser.add("out", type=Path, metavar="OUT", help="receives a folder per class")
    parser.add(
        "--margin", type=float, default=0.1, help="added on every side (default %(default)s)"
    )
    parser.add(
        "--min-side", type=int, default=8, help="smallest thing in pixels (default %(default)s)"
    )
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterable[object]:
    """Cut the things."""
    return cut_things(args.json, args.images, args.out, args.margin, args.min_side, args.nproc)


main = cli.Command(build_parser, run)
