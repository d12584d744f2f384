"""Make a COCO-panoptic set from COCO instance, stuff or detection files (masks).

Masks must not overlap unless --overlap says which is on top.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.masks_to_panoptic import (
    convert_masks,
    read_annotation_files,
    read_category_file,
)
from mmpanoptic.datasets.converters.painting import OVERLAP_RULES
from mmpanoptic.datasets.panoptic_json import load_json_object

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
        default="error",
        help="which of two overlapping masks is on top (default: refuse them)",
    )
    parser.add_argument("--background", help="stuff class for pixels without a mask")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        summary = convert_masks(
            read_annotation_files(args.json),
            load_json_object(str(args.images))["images"],
            read_category_file(args.categories),
            [*args.json, args.images, args.categories],
            args.out,
            args.overlap,
            args.background,
            args.nproc,
        )
        return [summary]

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
