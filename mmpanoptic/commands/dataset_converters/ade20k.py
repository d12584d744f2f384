"""Make panoptic, instance and semantic annotations of ADE20K (ADEChallengeData2016).

Three numberings of the panoptic JSON are in use: mmdet's (things 0..99, stuff 100..149, the
default here), Mask2Former's (scene-parsing value - 1) and scenic's (1..150).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.ade20k import (
    SPLITS,
    find_splits,
    make_instances,
    make_panoptic,
    make_semantic,
)
from mmpanoptic.datasets.converters.incremental import Summary
from mmpanoptic.datasets.label_sets_ade20k import FLAVOURS

EXAMPLES = """
  %(prog)s data/ADEChallengeData2016 --nproc 8
  %(prog)s $DETECTRON2_DATASETS/ADEChallengeData2016 --flavour mask2former \\
      --only panoptic instances semantic
"""
KINDS = ("panoptic", "instances", "semantic")


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("root", type=Path, metavar="ROOT", help="folder ADEChallengeData2016")
    parser.add("--out-dir", type=Path, help="default ROOT")
    parser.add("--flavour", choices=FLAVOURS, default="mmdet", help="default mmdet")
    parser.add("--only", nargs="+", choices=KINDS, default=["panoptic"], help="default: panoptic")
    parser.add("--split", nargs="+", choices=SPLITS, help="default: those that are there")
    parser.add(
        "--published-areas",
        action="store_true",
        help="areas and boxes of stuff as the published converters count them (too large), for "
        "numbers that compare with theirs",
    )
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[Summary]:
    """Convert what the arguments ask for."""
    out = args.out_dir or args.root
    for split in args.split or find_splits(args.root):
        if "panoptic" in args.only:
            areas, nproc = args.published_areas, args.nproc
            yield make_panoptic(args.root, out, split, args.flavour, areas, nproc)
        if "instances" in args.only:
            yield make_instances(args.root, out, split, args.flavour, args.nproc)
        if "semantic" in args.only:
            yield make_semantic(args.root, out, split, args.nproc)


main = cli.Command(build_parser, run)
