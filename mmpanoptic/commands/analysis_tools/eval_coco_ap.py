"""Compute COCO's box and mask AP of a result file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.evaluation.coco_ap import (
    BACKENDS,
    IOU_TYPES,
    CocoScores,
    check_detections,
    check_truth,
    coco_table,
    match_detections,
    score_matches,
)
from mmpanoptic.evaluation.part_contents import average_precision_part
from mmpanoptic.evaluation.tables import to_percent
from mmpanoptic.utils.coco_file import load_json
from mmpanoptic.utils.format_errors import format_error

from ._part_options import add_part_options, save_part

EXAMPLES = """
  %(prog)s data/coco/annotations/instances_val2017.json work_dirs/x/val.segm.json --iou-type segm
  %(prog)s instances.json results.json --iou-type bbox segm --backend faster-coco-eval
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("truth", type=Path, metavar="GT", help="instances_*.json")
    parser.add("detections", type=Path, metavar="RESULTS", help="COCO result JSON")
    parser.add("--iou-type", nargs="+", default=["segm"], choices=IOU_TYPES, help="default: segm")
    parser.add("--backend", default=BACKENDS[0], choices=BACKENDS, help="default: %(default)s")
    parser.take("json", help="write all numbers, unrounded, in percent")
    add_part_options(parser)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Evaluate the files that the arguments name.

    Raises:
        UsageError: If a part of several kinds, or of a backend without matches, is asked for.
    """
    if args.save_part is not None and (len(args.iou_type) > 1 or args.backend != BACKENDS[0]):
        raise cli.UsageError(f"--save-part needs one --iou-type, and --backend {BACKENDS[0]}")
    detections = load_json(args.detections)
    truth = check_truth(load_json(args.truth), args.iou_type, str(args.truth))
    if not truth["annotations"]:  # pycocotools computes -1
        detail = "the ground truth lists no annotations"
        raise format_error("empty_annotation", detail, str(args.truth))
    image_ids = sorted(image["id"] for image in truth["images"])
    positions = range(len(image_ids)) if args.part is None else args.part.positions(image_ids)
    chosen = [image_ids[position] for position in positions]
    scores, matched = {}, None
    for iou_type in args.iou_type:
        check_detections(truth, detections, iou_type, str(args.detections))
        matched = match_detections(truth, detections, iou_type, args.backend, chosen)
        scores[iou_type] = score_matches(matched)
    yield from report(args, scores, truth["categories"])
    yield from save_part(
        args,
        lambda: average_precision_part(matched, truth, args.truth, args.iou_type[0], image_ids),
    )


def report(
    args: argparse.Namespace,
    scores: Mapping[str, CocoScores],
    categories: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    """Show the scores by kind, and write ``--json``."""
    names = {category["id"]: category["name"] for category in categories}
    yield "\n".join(coco_table(found, names, iou_type) for iou_type, found in scores.items())
    cli.save_json(args, to_percent({iou_type: asdict(found) for iou_type, found in scores.items()}))


main = cli.Command(build_parser, run)
