"""Add who lies in front of whom to a COCO instance JSON, for relation and occlusion heads."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
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


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("instances", type=Path, metavar="INSTANCES_JSON")
    parser.add("panoptic", type=Path, metavar="PANOPTIC_JSON")
    parser.add(
        "--out", type=Path, help="default: <instances>_with_relation.json beside the instance JSON"
    )
    parser.add(
        "--overlap-thr",
        type=float,
        default=0.2,
        metavar="F",
        help="related if the intersection is more than this fraction of one (default: 0.2)",
    )
    parser.add(
        "--matching",
        choices=tuple(MATCHERS),
        default="reference",
        help="which instance a segment belongs to: the nearest box as published (default), the "
        "best overlap within the class, or the annotation's segment_id",
    )
    parser.add(
        "--front",
        choices=FRONT_RULES,
        default="loss",
        help="who lies in front: who lost fewer pixels in the panoptic map (default), or who has "
        "the greater depth in the annotation",
    )
    parser.add("--relations", type=Path, metavar="JSON", help="also write them alone")
    parser.add(
        "--pickle", type=Path, metavar="FILE", help="also write them as the published tools do"
    )
    parser.add("--report", action="store_true", help="print counts")
    parser.add(
        "--verify",
        type=Path,
        metavar="PNG_DIR",
        help="compare the areas of the panoptic JSON with its PNGs (slower)",
    )
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Extract the relations and write them."""
    options = RelationOptions(args.overlap_thr, args.matching, args.front)
    source = load_set(args.instances, args.panoptic)
    relations, counts = extract_relations(source, options, args.nproc, args.verify)
    if args.report:
        yield from counts.describe()
    out = args.out or args.instances.with_name(f"{args.instances.stem}_with_relation.json")
    for path in write_relations(source, relations, out, args.relations, args.pickle):
        yield f"wrote {path}"


main = cli.Command(build_parser, run)
