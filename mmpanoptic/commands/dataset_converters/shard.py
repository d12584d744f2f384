"""Pack a panoptic set into tar shards, to train from one file per thousand images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.shards import write_shards

EXAMPLES = """
  %(prog)s data/shapes/annotations/panoptic_train.json data/shapes/train data/shapes-shards/train
  %(prog)s data/coco/annotations/panoptic_train2017.json data/coco/train2017 \\
      data/coco-shards/train --shuffle 0
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add("images", type=Path, metavar="IMAGES", help="folder or zip archive of the images")
    parser.add("out", type=Path, metavar="OUT", help="receives the shards and panoptic.json")
    parser.add("--png-dir", type=Path, help="folder of the PNGs (default: beside the JSON)")
    parser.add(
        "--shard-size",
        type=cli.at_least(1),
        default=1000,
        metavar="N",
        help="images of a shard (default %(default)s)",
    )
    parser.add(
        "--shuffle",
        type=cli.at_least(0),
        metavar="SEED",
        help="mix the images over the shards (default: the order of the JSON)",
    )
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Write the shards."""
    options = (args.png_dir, args.shard_size, args.shuffle, args.nproc)
    return write_shards(args.json, args.images, args.out, *options)


main = cli.Command(build_parser, run)
