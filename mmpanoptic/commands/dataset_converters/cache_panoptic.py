"""Cache the panoptic PNGs of a set as run lengths, in one file beside their folder.

Datasets use the file by themselves. It is checked against size and time of every PNG it serves:
a changed PNG is decoded again until the cache is renewed with the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.caching import cache_pngs
from mmpanoptic.datasets.converters.panoptic_source import load_source

EXAMPLES = """
  %(prog)s data/coco/annotations/panoptic_train2017.json --nproc 8
  %(prog)s data/cityscapes/gtFine/cityscapes_panoptic_{train,val}.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("json", type=Path, nargs="+", metavar="PANOPTIC_JSON")
    parser.add("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> Iterator[object]:
    """Cache every set."""
    if args.png_dir and len(args.json) > 1:
        raise cli.UsageError("--png-dir goes with one JSON")
    for path in args.json:
        summary, left_out = cache_pngs(load_source(path, args.png_dir), args.nproc)
        yield summary
        if left_out:
            yield (
                f"  {len(left_out)} PNGs do not fit the JSON and are not in the cache, such as "
                f"{left_out[0]}; see tools/dataset_converters/check.py"
            )


main = cli.Command(build_parser, run)
