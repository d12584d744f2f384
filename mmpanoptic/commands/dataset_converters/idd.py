"""Make the COCO-panoptic files of IDD, the Indian Driving Dataset: 26 classes of level 3.

Read: ROOT/leftImg8bit/{train,val}/DRIVE/*_leftImg8bit.{png,jpg} and
ROOT/gtFine/{train,val}/DRIVE/*_gtFine_polygons.json (or, with --label-maps, the label maps that the
dataset's own code makes of them). Written: OUT/{train,val}_panoptic.json and its PNGs; with --size
also the images, in OUT/images/{train,val}.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.idd import SPLITS, IddSettings, convert_idd
from mmpanoptic.datasets.converters.incremental import Summary

EXAMPLES = """
  %(prog)s data/idd --nproc 8
  %(prog)s data/idd --label-maps --split val
  %(prog)s data/idd --size 720 1280 --out-dir data/idd_720
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("root", type=Path, metavar="ROOT", help="folder with leftImg8bit/ and gtFine/")
    parser.add("-o", "--out-dir", type=Path, metavar="OUT", help="default: ROOT/gtFine")
    parser.add("--split", nargs="+", choices=SPLITS, help="default: both")
    parser.add(
        "--label-maps",
        action="store_true",
        help="read *_gtFine_instancelevel3Ids.png instead of drawing the polygons",
    )
    parser.add(
        "--drop-ignored",
        action="store_true",
        help="make void what the published evaluation leaves out (animals, caravans, trailers, "
        "trains), which the label maps count as person or vehicle fallback",
    )
    parser.take("size", help="resize images and annotation alike (default: keep their size)")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[Summary]:
    """Convert what the arguments ask for."""
    if args.label_maps and args.drop_ignored:
        raise cli.UsageError("--drop-ignored needs the polygons: label maps hold classes alone")
    size = tuple(args.size) if args.size else None
    settings = IddSettings(size, args.label_maps, args.drop_ignored)
    for split in args.split or SPLITS:
        out = args.out_dir or args.root / "gtFine"
        yield convert_idd(args.root, split, out, settings, args.nproc)


main = cli.Command(build_parser, run)
