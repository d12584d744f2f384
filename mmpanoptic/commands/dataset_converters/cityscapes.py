"""Make every derived annotation of Cityscapes from its gtFine folder.

Written: *_labelTrainIds.png and *_instanceTrainIds.png beside their sources,
cityscapes_panoptic_<split>{,_trainId}{.json,/} in gtFine, and the COCO instance JSON
instancesonly_filtered_gtFine_<split>.json in --out-dir.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.cityscapes import SPLITS, CityscapesFolders, convert_cityscapes
from mmpanoptic.datasets.converters.cityscapes_layout import make_efficientps_layout
from mmpanoptic.datasets.converters.cityscapes_polygons import draw_polygons
from mmpanoptic.datasets.converters.incremental import Summary

EXAMPLES = """
  %(prog)s data/cityscapes --nproc 8
  %(prog)s data/cityscapes --nproc 8 --out-dir data/cityscapes/annotations
  %(prog)s data/cityscapes --only panoptic --panoptic-dir data/cityscapes
  %(prog)s data/cityscapes --layout efficientps --layout-dir data/cityscapes_efficientps
"""
KINDS = ("train_ids", "panoptic", "instances")


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("root", type=Path, metavar="ROOT", help="folder of Cityscapes")
    parser.add("--img-dir", default="leftImg8bit", help="under ROOT (default %(default)s)")
    parser.add("--gt-dir", default="gtFine", help="under ROOT (default %(default)s)")
    parser.add(
        "-o", "--out-dir", type=Path, help="for the instance JSONs (default ROOT/annotations)"
    )
    parser.add(
        "--panoptic-dir", type=Path, help="for panoptic JSONs and PNGs (default ROOT/gtFine)"
    )
    parser.add("--only", nargs="+", choices=KINDS, help="make only these (default: all)")
    parser.add("--split", nargs="+", choices=SPLITS, help="default: those that are there")
    parser.add(
        "--from-polygons",
        action="store_true",
        help="first draw missing *_labelIds.png and *_instanceIds.png from *_polygons.json",
    )
    parser.add(
        "--historical-names",
        action="store_true",
        help="panoptic JSON: <id>_gtFine_leftImg8bit.png as image name, as the official script "
        "writes it, instead of the path of the image",
    )
    parser.add(
        "--layout", choices=["efficientps"], help="also write this code base's folder layout"
    )
    parser.add("--layout-dir", type=Path, help="for --layout (default ROOT)")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[Summary]:
    """Convert what the arguments ask for."""
    folders = CityscapesFolders(
        root=args.root,
        image=args.root / args.img_dir,
        gt=args.root / args.gt_dir,
        out=args.out_dir or args.root / "annotations",
        panoptic=args.panoptic_dir or args.root / args.gt_dir,
    )
    for split in args.split or folders.splits():
        if args.from_polygons:
            yield draw_polygons(folders, split, args.nproc)
        kinds = args.only or KINDS
        yield from convert_cityscapes(folders, kinds, [split], args.nproc, args.historical_names)
        if args.layout and split != "test":
            target = args.layout_dir or args.root
            yield from make_efficientps_layout(folders, split, target, args.nproc)


main = cli.Command(build_parser, run)
