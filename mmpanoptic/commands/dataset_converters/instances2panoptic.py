"""Make a COCO-panoptic set from COCO instance, stuff or detection files (masks).

Every conversion ends with a balance: what came in, what is kept, what became of the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.masks_to_panoptic import convert_masks, read_mask_set
from mmpanoptic.datasets.converters.painting import OVERLAP_RULES
from mmpanoptic.utils.format_errors import problems_reported

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
        default=OVERLAP_RULES[0],
        help="which of two overlapping masks is on top (default: %(default)s)",
    )
    parser.add("--background", help="stuff class for pixels without a mask")
    parser.add("--report", type=Path, metavar="JSON", help="write all problems here, too")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Paint the masks."""
    with problems_reported(args.report):
        masks = read_mask_set(args.json, args.images, args.categories)
        yield convert_masks(masks, args.out, args.overlap, args.background, args.nproc)


main = cli.Command(build_parser, run)
