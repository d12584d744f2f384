"""Make semantic label maps (8-bit PNG) from a COCO-panoptic JSON and its PNGs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.coco_semantic import STYLE_HELP, STYLES, convert_to_semantic
from mmpanoptic.datasets.converters.panoptic_source import load_source

STYLE_LINES = "\n".join(f"  {name:<13}{text}" for name, text in STYLE_HELP.items())
EXAMPLES = f"""
  %(prog)s data/coco/annotations/panoptic_val2017.json --style contiguous
  %(prog)s datasets/coco/annotations/panoptic_train2017.json --style things_last --nproc 8
  %(prog)s datasets/coco/annotations/panoptic_val2017.json --style things_zero \\
      --out-dir datasets/coco/annotations/PanopticAnnotation/val2017

styles:
{STYLE_LINES}
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add("--style", required=True, choices=STYLES, help="numbering, see below")
    parser.add("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.add("--out-dir", type=Path, help="default: a folder beside the JSON")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Convert the set."""
    source = load_source(args.json, args.png_dir)
    yield convert_to_semantic(source, args.style, args.out_dir, args.nproc)


main = cli.Command(build_parser, run)
