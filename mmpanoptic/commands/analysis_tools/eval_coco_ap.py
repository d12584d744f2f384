"""Compute COCO's box and mask AP of a result file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.evaluation.coco_ap import (
    BACKENDS,
    IOU_TYPES,
    check_detections,
    check_truth,
    coco_table,
    evaluate_coco_ap,
)
from mmpanoptic.evaluation.tables import to_percent
from mmpanoptic.utils.coco_file import load_json
from mmpanoptic.utils.format_errors import format_error

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
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Evaluate the files that the arguments name."""
    detections = load_json(args.detections)
    truth = check_truth(load_json(args.truth), args.iou_type, str(args.truth))
    if not truth["annotations"]:  # pycocotools computes -1
        detail = "the ground truth lists no annotations"
        raise format_error("empty_annotation", detail, str(args.truth))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    tables, numbers = [], {}
    for iou_type in args.iou_type:
        check_detections(truth, detections, iou_type, str(args.detections))
        scores = evaluate_coco_ap(truth, detections, iou_type, args.backend, checked=True)
        tables.append(coco_table(scores, names, iou_type))
        numbers[iou_type] = asdict(scores)
    yield "\n".join(tables)
    cli.save_json(args, to_percent(numbers))


main = cli.Command(build_parser, run)
