"""Make a COCO-panoptic set from two-channel PNGs: R = category id, G = instance number."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.masks_to_panoptic import convert_two_channel, read_category_file

EXAMPLES = """
  %(prog)s results/two_channel --images panoptic_val2017.json --categories panoptic_val2017.json \\
      --out results/panoptic.json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="PNG_DIR", help="PNGs named as the images")
    parser.add_argument("--images", type=Path, required=True, help="JSON with the list of images")
    parser.add_argument(
        "--categories", type=Path, required=True, help="JSON with categories that have isthing"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="panoptic JSON; PNGs go into the folder of its name"
    )
    parser.add_argument("--void", type=int, default=0, help="category of void (default 0)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        categories = read_category_file(args.categories)
        void, nproc = args.void, args.nproc
        return [convert_two_channel(args.folder, args.images, categories, args.out, void, nproc)]

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
