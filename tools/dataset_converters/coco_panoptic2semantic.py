"""Make semantic label maps (8-bit PNG) from a COCO-panoptic JSON and its PNGs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
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


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add_argument("--style", required=True, choices=STYLES, help="numbering, see below")
    parser.add_argument("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.add_argument("--out-dir", type=Path, help="default: a folder beside the JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        source = load_source(args.json, args.png_dir)
        return [convert_to_semantic(source, args.style, args.out_dir, args.nproc)]

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
