"""Make a COCO-panoptic set from two-channel PNGs: R = category id, G = instance number."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.masks_to_panoptic import convert_two_channel, read_category_file

EXAMPLES = """
  %(prog)s results/two_channel --images panoptic_val2017.json --categories panoptic_val2017.json \\
      --out results/panoptic.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("folder", type=Path, metavar="PNG_DIR", help="PNGs named as the images")
    parser.add("--images", type=Path, required=True, help="JSON with the list of images")
    parser.add(
        "--categories", type=Path, required=True, help="JSON with categories that have isthing"
    )
    parser.add(
        "--out", type=Path, required=True, help="panoptic JSON; PNGs go into the folder of its name"
    )
    parser.add("--void", type=int, default=0, help="category of void (default 0)")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Convert the PNGs."""
    categories = read_category_file(args.categories)
    yield convert_two_channel(args.folder, args.images, categories, args.out, args.void, args.nproc)


main = cli.Command(build_parser, run)
