"""Make the COCO-panoptic files of KITTI panoptic (annotation of the EfficientPS authors).

Read: ROOT/{training,validation}/{images,annotations}/NAME.png, whose colours are Cityscapes'
instance ids. Written: OUT/annotations/panoptic_{train,val}.json and its PNGs; with --size also
the images, in OUT/{train,val}.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.incremental import Summary
from mmpanoptic.datasets.converters.kitti import SPLITS, convert_kitti

EXAMPLES = """
  %(prog)s data/kitti_panoptic --nproc 8
  %(prog)s data/kitti_panoptic --size 384 1280 --out-dir data/kitti_384
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("root", type=Path, metavar="ROOT", help="folder with training/ and validation/")
    parser.add("-o", "--out-dir", type=Path, metavar="OUT", help="default: ROOT")
    parser.add("--split", nargs="+", choices=SPLITS, help="default: both")
    parser.take("size", help="resize images and annotation alike (default: keep their size)")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[Summary]:
    """Convert what the arguments ask for."""
    size = tuple(args.size) if args.size else None
    for split in args.split or SPLITS:
        yield convert_kitti(args.root, split, args.out_dir or args.root, size, args.nproc)


main = cli.Command(build_parser, run)
