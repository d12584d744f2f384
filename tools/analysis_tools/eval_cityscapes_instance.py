#!/usr/bin/env python
"""Evaluate instance predictions by Cityscapes' rules: AP and AP50 of masks.

Predictions are one text file per image, named <city>_<seq>_<frame>*.txt, with lines
"relative/mask.png label_id score". The results are those of cityscapesScripts'
evalInstanceLevelSemanticLabeling.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.evaluation.cityscapes_files import evaluate_instance_files
from mmpanoptic.evaluation.cityscapes_instance import THRESHOLDS, instance_table
from mmpanoptic.evaluation.commands import add_nproc, evaluation_parser, report_evaluation

EXAMPLES = """
  %(prog)s data/cityscapes/gtFine/val work_dirs/pdl/val.instance
  %(prog)s data/cityscapes/gtFine/val results --nproc 8 --json instance.json
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = evaluation_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "truth", type=Path, metavar="GT", help="folder above the *_gtFine_instanceIds.png"
    )
    parser.add_argument("predictions", type=Path, metavar="PRED", help="folder above the *.txt")
    add_nproc(parser)
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Evaluate the folders that the arguments name."""
    scores = evaluate_instance_files(args.truth, args.predictions, args.nproc, "images")
    numbers = {
        "averages": scores.means(),
        "class_ap": scores.class_ap,
        "class_ap50": scores.class_ap50,
        "thresholds": [f"{threshold:.2f}" for threshold in THRESHOLDS],
        "matrix": scores.matrix.tolist(),
    }
    return instance_table(scores), numbers


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; return the exit status."""
    args = parse_args(argv)
    return report_evaluation(lambda: evaluate(args), args.json)


if __name__ == "__main__":
    sys.exit(main())
