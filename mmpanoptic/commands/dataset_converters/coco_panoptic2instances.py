"""Make a COCO instance JSON (run-length masks) from a COCO-panoptic JSON and its PNGs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.coco_instances import MODES, convert_to_instances
from mmpanoptic.datasets.converters.panoptic_source import load_source

EXAMPLES = """
  %(prog)s data/coco/annotations/panoptic_val2017.json
  %(prog)s data/coco/annotations/panoptic_val2017.json --mode all --out all_segments.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("json", type=Path, metavar="PANOPTIC_JSON")
    parser.add("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.add(
        "--out",
        type=Path,
        help="default: <mode>_from_<name> beside the JSON, so that COCO's own "
        "instance file is not overwritten",
    )
    parser.add(
        "--mode",
        choices=MODES,
        default="things",
        help="thing segments (default), all segments, or one mask per class and image",
    )
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Convert the set."""
    source = load_source(args.json, args.png_dir)
    out = args.out or args.json.with_name(f"{args.mode}_from_{args.json.name}")
    yield convert_to_instances(source, out, args.mode, args.nproc)


main = cli.Command(build_parser, run)
