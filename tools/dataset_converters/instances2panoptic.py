"""Make a COCO-panoptic set from COCO instance, stuff or detection files (masks).

Masks must not overlap unless --overlap says which is on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
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


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add(
        "json", type=Path, nargs="+", metavar="JSON", help="COCO annotations, or a list of results"
    )
    parser.add("--images", type=Path, required=True, help="JSON with the list of images")
    parser.add(
        "--categories",
        type=Path,
        required=True,
        help="JSON with categories that have isthing, such as a panoptic JSON",
    )
    parser.add(
        "--out", type=Path, required=True, help="panoptic JSON; PNGs go into the folder of its name"
    )
    parser.add(
        "--overlap",
        choices=OVERLAP_RULES,
        default="error",
        help="which of two overlapping masks is on top (default: refuse them)",
    )
    parser.add("--background", help="stuff class for pixels without a mask")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Paint the masks."""
    yield convert_masks(
        read_annotation_files(args.json),
        load_json_object(str(args.images))["images"],
        read_category_file(args.categories),
        [*args.json, args.images, args.categories],
        args.out,
        args.overlap,
        args.background,
        args.nproc,
    )


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
