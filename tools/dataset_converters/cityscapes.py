"""Make every derived annotation of Cityscapes from its gtFine folder.

Written: *_labelTrainIds.png and *_instanceTrainIds.png beside their sources,
cityscapes_panoptic_<split>{,_trainId}{.json,/} in gtFine, and the COCO instance JSON
instancesonly_filtered_gtFine_<split>.json in --out-dir.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic.datasets.converters.cityscapes import SPLITS, CityscapesFolders, convert_cityscapes
from mmpanoptic.datasets.converters.cityscapes_layout import make_efficientps_layout
from mmpanoptic.datasets.converters.cityscapes_polygons import draw_polygons
from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.incremental import Summary

EXAMPLES = """
  %(prog)s data/cityscapes --nproc 8
  %(prog)s data/cityscapes --nproc 8 --out-dir data/cityscapes/annotations
  %(prog)s data/cityscapes --only panoptic --panoptic-dir data/cityscapes
  %(prog)s data/cityscapes --layout efficientps --layout-dir data/cityscapes_efficientps
"""
KINDS = ("train_ids", "panoptic", "instances")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of Cityscapes")
    parser.add_argument("--img-dir", default="leftImg8bit", help="under ROOT (default %(default)s)")
    parser.add_argument("--gt-dir", default="gtFine", help="under ROOT (default %(default)s)")
    parser.add_argument(
        "-o", "--out-dir", type=Path, help="for the instance JSONs (default ROOT/annotations)"
    )
    parser.add_argument(
        "--panoptic-dir", type=Path, help="for panoptic JSONs and PNGs (default ROOT/gtFine)"
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, help="make only these (default: all)")
    parser.add_argument("--split", nargs="+", choices=SPLITS, help="default: those that are there")
    parser.add_argument(
        "--from-polygons",
        action="store_true",
        help="first draw missing *_labelIds.png and *_instanceIds.png from *_polygons.json",
    )
    parser.add_argument(
        "--historical-names",
        action="store_true",
        help="panoptic JSON: <id>_gtFine_leftImg8bit.png as image name, as the official script "
        "writes it, instead of the path of the image",
    )
    parser.add_argument(
        "--layout", choices=["efficientps"], help="also write this code base's folder layout"
    )
    parser.add_argument("--layout-dir", type=Path, help="for --layout (default ROOT)")
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> Iterator[Summary]:
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


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)
    return report(lambda: convert(args))


if __name__ == "__main__":
    sys.exit(main())
