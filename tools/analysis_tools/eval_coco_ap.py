#!/usr/bin/env python
"""Compute COCO's box and mask AP of a result file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmpanoptic.evaluation.coco_ap import (
    BACKENDS,
    IOU_TYPES,
    check_detections,
    check_truth,
    coco_table,
    evaluate_coco_ap,
)
from mmpanoptic.evaluation.commands import evaluation_parser, report_evaluation
from mmpanoptic.utils.coco_file import load_json

EXAMPLES = """
  %(prog)s data/coco/annotations/instances_val2017.json work_dirs/x/val.segm.json --iou-type segm
  %(prog)s instances.json results.json --iou-type bbox segm --backend faster-coco-eval
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = evaluation_parser(__doc__, EXAMPLES)
    parser.add_argument("truth", type=Path, metavar="GT", help="instances_*.json")
    parser.add_argument("detections", type=Path, metavar="RESULTS", help="COCO result JSON")
    parser.add_argument(
        "--iou-type", nargs="+", default=["segm"], choices=IOU_TYPES, help="default: segm"
    )
    parser.add_argument(
        "--backend", default=BACKENDS[0], choices=BACKENDS, help="default: %(default)s"
    )
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Evaluate the files that the arguments name."""
    detections = load_json(args.detections)
    truth = check_truth(load_json(args.truth), args.iou_type, str(args.truth))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    tables, numbers = [], {}
    for iou_type in args.iou_type:
        check_detections(truth, detections, iou_type, str(args.detections))
        scores = evaluate_coco_ap(truth, detections, iou_type, args.backend, checked=True)
        tables.append(coco_table(scores, names, iou_type))
        numbers[iou_type] = asdict(scores)
    return "\n".join(tables), numbers


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; return the exit status."""
    args = parse_args(argv)
    return report_evaluation(lambda: evaluate(args), args.json)


if __name__ == "__main__":
    sys.exit(main())
