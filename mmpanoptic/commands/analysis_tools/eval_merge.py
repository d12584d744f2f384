"""Add parts of an evaluation: files of --save-part of eval_panoptic, eval_miou, eval_coco_ap.

Any split of the images gives the bits that one evaluation of all of them gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli
from mmpanoptic.evaluation.coco_ap import score_matches
from mmpanoptic.evaluation.part_contents import (
    merge_average_precision,
    merge_panoptic,
    merge_semantic,
)
from mmpanoptic.evaluation.parts import check_parts, read_part
from mmpanoptic.evaluation.semantic_iou import DEFINITIONS

from . import eval_coco_ap, eval_miou, eval_panoptic

EXAMPLES = """
  %(prog)s parts/*.json
  %(prog)s part1.json part2.json --json whole.json --per-image rows.csv
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("parts", nargs="+", metavar="PART", help="files of --save-part")
    parser.add("--incomplete", action="store_true", help="evaluate the images that the parts have")
    parser.add(
        "--definition",
        nargs="+",
        choices=list(DEFINITIONS),
        help="of mIoU: which classes to average (default: mmseg); the table shows the first",
    )
    eval_panoptic.add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Add the parts and report as the command does that wrote them.

    Raises:
        UsageError: If an option is of another kind of evaluation.
    """
    twice = sorted({path for path in args.parts if args.parts.count(path) > 1})
    if twice:
        raise cli.UsageError(f"{twice[0]} is given twice")
    parts = check_parts({path: read_part(path) for path in args.parts}, args.incomplete)
    kind = parts[0].kind
    if kind != "panoptic" and (args.per_image is not None or args.worst):
        raise cli.UsageError(f"--per-image and --worst are of panoptic quality; these are {kind}")
    if kind != "miou" and args.definition is not None:
        raise cli.UsageError(f"--definition is of mIoU; these are parts of {kind}")
    if kind == "panoptic":
        yield from eval_panoptic.report(args, merge_panoptic(parts))
    elif kind == "miou":
        args.definition = args.definition or ["mmseg"]
        yield from eval_miou.report(args, merge_semantic(parts), parts[0].whole["classes"])
    else:
        categories = [{"id": key, "name": name} for key, name in parts[0].whole["categories"]]
        scores = {parts[0].whole["iou_type"]: score_matches(merge_average_precision(parts))}
        yield from eval_coco_ap.report(args, scores, categories)
    yield f"{sum(len(part.images) for part in parts)} of {parts[0].total} images, {kind}"


main = cli.Command(build_parser, run)
