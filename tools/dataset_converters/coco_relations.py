"""Add who lies in front of whom to a COCO instance JSON, for relation and occlusion heads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.relation_files import (
    extract_relations,
    load_set,
    write_relations,
)
from mmpanoptic.datasets.converters.relation_matching import MATCHERS
from mmpanoptic.datasets.converters.relations import FRONT_RULES, RelationOptions

EXAMPLES = """
  %(prog)s data/coco/annotations/instances_train2017.json \\
      data/coco/annotations/panoptic_train2017.json --report
  %(prog)s data/shapes/annotations/instances_train.json \\
      data/shapes/annotations/panoptic_train.json --matching segment_id --front depth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("instances", type=Path, metavar="INSTANCES_JSON")
    parser.add_argument("panoptic", type=Path, metavar="PANOPTIC_JSON")
    parser.add_argument(
        "--out", type=Path, help="default: <instances>_with_relation.json beside the instance JSON"
    )
    parser.add_argument(
        "--overlap-thr",
        type=float,
        default=0.2,
        metavar="F",
        help="related if the intersection is more than this fraction of one (default: 0.2)",
    )
    parser.add_argument(
        "--matching",
        choices=tuple(MATCHERS),
        default="reference",
        help="which instance a segment belongs to: the nearest box as published (default), the "
        "best overlap within the class, or the annotation's segment_id",
    )
    parser.add_argument(
        "--front",
        choices=FRONT_RULES,
        default="loss",
        help="who lies in front: who lost fewer pixels in the panoptic map (default), or who has "
        "the greater depth in the annotation",
    )
    parser.add_argument("--relations", type=Path, metavar="JSON", help="also write them alone")
    parser.add_argument(
        "--pickle", type=Path, metavar="FILE", help="also write them as the published tools do"
    )
    parser.add_argument("--report", action="store_true", help="print counts")
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="PNG_DIR",
        help="compare the areas of the panoptic JSON with its PNGs (slower)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Extract and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        options = RelationOptions(args.overlap_thr, args.matching, args.front)
        source = load_set(args.instances, args.panoptic)
        relations, counts = extract_relations(source, options, args.nproc, args.verify)
        out = args.out or args.instances.with_name(f"{args.instances.stem}_with_relation.json")
        files = write_relations(source, relations, out, args.relations, args.pickle)
        return [*(counts.describe() if args.report else ()), *(f"wrote {path}" for path in files)]

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
