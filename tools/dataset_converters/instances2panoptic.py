"""Make a COCO-panoptic set from COCO instance, stuff or detection files (masks).

Every conversion ends with a balance: what came in, what is kept, what became of the rest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.masks_to_panoptic import convert_masks, read_mask_set
from mmpanoptic.datasets.converters.painting import OVERLAP_RULES

EXAMPLES = """
  %(prog)s detections.json --images annotations/panoptic_val2017.json --out results/panoptic.json \\
      --categories annotations/panoptic_val2017.json --overlap score
  %(prog)s instances.json stuff.json --images instances.json --categories categories.json \\
      --out panoptic.json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "json", type=Path, nargs="+", metavar="JSON", help="COCO annotations, or a list of results"
    )
    parser.add_argument("--images", type=Path, required=True, help="JSON with the list of images")
    parser.add_argument(
        "--categories",
        type=Path,
        required=True,
        help="JSON with categories that have isthing, such as a panoptic JSON",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="panoptic JSON; PNGs go into the folder of its name"
    )
    parser.add_argument(
        "--overlap",
        choices=OVERLAP_RULES,
        default=OVERLAP_RULES[0],
        help="which of two overlapping masks is on top (default: %(default)s)",
    )
    parser.add_argument("--background", help="stuff class for pixels without a mask")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        masks = read_mask_set(args.json, args.images, args.categories)
        return [convert_masks(masks, args.out, args.overlap, args.background, args.nproc)]

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
