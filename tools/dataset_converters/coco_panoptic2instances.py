"""Make a COCO instance JSON (run-length masks) from a COCO-panoptic JSON and its PNGs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.coco_instances import MODES, convert_to_instances
from mmpanoptic.datasets.converters.panoptic_source import load_source

EXAMPLES = """
  %(prog)s data/coco/annotations/panoptic_val2017.json
  %(prog)s data/coco/annotations/panoptic_val2017.json --mode all --out all_segments.json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add_argument("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: <mode>_from_<name> beside the JSON, so that COCO's own "
        "instance file is not overwritten",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="things",
        help="thing segments (default), all segments, or one mask per class and image",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        source = load_source(args.json, args.png_dir)
        out = args.out or args.json.with_name(f"{args.mode}_from_{args.json.name}")
        return [convert_to_instances(source, out, args.mode, args.nproc)]

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
