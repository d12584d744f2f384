"""Evaluate instance predictions by Cityscapes' rules: AP and AP50 of masks.

Predictions are one text file per image, named <city>_<seq>_<frame>*.txt, with lines
"relative/mask.png label_id score". The results are those of cityscapesScripts'
evalInstanceLevelSemanticLabeling.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.evaluation.cityscapes_files import evaluate_instance_files
from mmpanoptic.evaluation.cityscapes_instance import THRESHOLDS, instance_table
from mmpanoptic.evaluation.tables import to_percent

EXAMPLES = """
  %(prog)s data/cityscapes/gtFine/val work_dirs/pdl/val.instance
  %(prog)s data/cityscapes/gtFine/val results --nproc 8 --json instance.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("truth", type=Path, metavar="GT", help="folder above the *_gtFine_instanceIds.png")
    parser.add("predictions", type=Path, metavar="PRED", help="folder above the *.txt")
    parser.take("nproc")
    parser.take("json", help="write all numbers, unrounded, in percent")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Evaluate the folders that the arguments name."""
    scores = evaluate_instance_files(args.truth, args.predictions, args.nproc, "images")
    numbers = {
        "averages": scores.means(),
        "class_ap": scores.class_ap,
        "class_ap50": scores.class_ap50,
        "thresholds": [f"{threshold:.2f}" for threshold in THRESHOLDS],
        "matrix": scores.matrix.tolist(),
    }
    yield instance_table(scores)
    cli.save_json(args, to_percent(numbers))


main = cli.Command(build_parser, run)
