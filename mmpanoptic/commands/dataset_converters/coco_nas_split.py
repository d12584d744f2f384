"""Split COCO's training set for architecture search (Auto-Panoptic's nas folder).

The validation part is chosen by the SHA-256 of "<seed>:<image id>", or given with --ids: the
published split has no seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.coco_json import make_nas_split, read_image_ids
from mmpanoptic.utils import read_json

EXAMPLES = """
  %(prog)s datasets/coco
  %(prog)s datasets/coco --num-val 5000 --seed 1 --out-dir datasets/coco/nas_1
  %(prog)s datasets/coco --ids published_val_ids.txt
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("root", type=Path, metavar="ROOT", help="folder of COCO")
    parser.add("--instances", type=Path, help="default ROOT/annotations/instances_train2017.json")
    parser.add("--panoptic", type=Path, help="default ROOT/annotations/panoptic_train2017.json")
    parser.add("--out-dir", type=Path, help="default ROOT/nas")
    parser.add("--num-val", type=int, default=5000, help="default %(default)s")
    parser.add("--seed", type=int, default=0, help="default %(default)s")
    parser.add(
        "--ids", type=Path, help="validation images: JSON list, COCO JSON, or text with one a line"
    )
    return parser


def run(args: argparse.Namespace) -> list[Path]:
    """Split the training set."""
    folder = args.root / "annotations"
    instances = args.instances or folder / "instances_train2017.json"
    panoptic = args.panoptic or folder / "panoptic_train2017.json"
    chosen = None
    if args.ids:
        known = [image["id"] for image in read_json(instances)["images"]]
        chosen = read_image_ids(args.ids, known)
    out = args.out_dir or args.root / "nas"
    return make_nas_split(instances, panoptic, out, chosen, args.num_val, args.seed)


main = cli.Command(build_parser, run)
