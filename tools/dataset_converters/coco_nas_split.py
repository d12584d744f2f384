"""Split COCO's training set for architecture search (Auto-Panoptic's nas folder).

The validation part is chosen by the SHA-256 of "<seed>:<image id>", or given with --ids: the
published split has no seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.coco_json import make_nas_split, read_image_ids
from mmpanoptic.utils import read_json

EXAMPLES = """
  %(prog)s datasets/coco
  %(prog)s datasets/coco --num-val 5000 --seed 1 --out-dir datasets/coco/nas_1
  %(prog)s datasets/coco --ids published_val_ids.txt
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of COCO")
    parser.add_argument(
        "--instances", type=Path, help="default ROOT/annotations/instances_train2017.json"
    )
    parser.add_argument(
        "--panoptic", type=Path, help="default ROOT/annotations/panoptic_train2017.json"
    )
    parser.add_argument("--out-dir", type=Path, help="default ROOT/nas")
    parser.add_argument("--num-val", type=int, default=5000, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--ids", type=Path, help="validation images: JSON list, COCO JSON, or text with one a line"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Split and say what was done; return the exit status."""
    args = parse_args(argv)
    folder = args.root / "annotations"
    instances = args.instances or folder / "instances_train2017.json"
    panoptic = args.panoptic or folder / "panoptic_train2017.json"

    def work() -> list[Path]:
        chosen = None
        if args.ids:
            known = [image["id"] for image in read_json(instances)["images"]]
            chosen = read_image_ids(args.ids, known)
        out = args.out_dir or args.root / "nas"
        return make_nas_split(instances, panoptic, out, chosen, args.num_val, args.seed)

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
