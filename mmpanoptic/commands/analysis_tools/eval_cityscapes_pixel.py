"""Evaluate semantic predictions by Cityscapes' rules: IoU and iIoU per class and per category.

Predictions are one PNG of label ids (road is 7, not 0) per image, named <city>_<seq>_<frame>*.png.
The results are those of cityscapesScripts' evalPixelLevelSemanticLabeling.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmpanoptic import cli
from mmpanoptic.evaluation.cityscapes_files import evaluate_pixel_files
from mmpanoptic.evaluation.cityscapes_pixel import pixel_tables
from mmpanoptic.evaluation.tables import to_percent

EXAMPLES = """
  %(prog)s data/cityscapes/gtFine/val work_dirs/pdl/val.semantic
  %(prog)s data/cityscapes/gtFine/val results --nproc 8 --json pixel.json
"""
_LAST_TRAIN_ID = 18


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("truth", type=Path, metavar="GT", help="folder above the *_gtFine_labelIds.png")
    parser.add("predictions", type=Path, metavar="PRED", help="folder above the PNGs")
    parser.take("nproc")
    parser.take("json", help="write all numbers, unrounded, in percent")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
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
    yield tables
    cli.save_json(args, to_percent(numbers))


main = cli.Command(build_parser, run)
