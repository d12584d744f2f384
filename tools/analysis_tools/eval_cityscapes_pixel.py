#!/usr/bin/env python
"""Evaluate semantic predictions by Cityscapes' rules: IoU and iIoU per class and per category.

Predictions are one PNG of label ids (road is 7, not 0) per image, named <city>_<seq>_<frame>*.png.
The results are those of cityscapesScripts' evalPixelLevelSemanticLabeling.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.evaluation.cityscapes_files import evaluate_pixel_files
from mmpanoptic.evaluation.cityscapes_pixel import pixel_tables
from mmpanoptic.evaluation.commands import add_nproc, evaluation_parser, report_evaluation

EXAMPLES = """
  %(prog)s data/cityscapes/gtFine/val work_dirs/pdl/val.semantic
  %(prog)s data/cityscapes/gtFine/val results --nproc 8 --json pixel.json
"""
_LAST_TRAIN_ID = 18


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = evaluation_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "truth", type=Path, metavar="GT", help="folder above the *_gtFine_labelIds.png"
    )
    parser.add_argument("predictions", type=Path, metavar="PRED", help="folder above the PNGs")
    add_nproc(parser)
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Evaluate the folders that the arguments name."""
    scores, counts = evaluate_pixel_files(args.truth, args.predictions, args.nproc, "images")
    predicted = np.flatnonzero(counts.matrix.sum(0))
    tables = pixel_tables(scores)
    if len(predicted) and predicted.max() <= _LAST_TRAIN_ID:
        tables += (
            f"\nwarning: no prediction exceeds {predicted.max()}; if they are train ids (road is "
            "0), write label ids (road is 7)"
        )
    numbers = {"averages": scores.means(), **asdict(scores), "matrix": counts.matrix.tolist()}
    return tables, numbers


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; return the exit status."""
    args = parse_args(argv)
    return report_evaluation(lambda: evaluate(args), args.json)


if __name__ == "__main__":
    sys.exit(main())
