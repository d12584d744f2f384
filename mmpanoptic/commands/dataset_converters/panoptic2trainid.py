"""Make a panoptic JSON whose category ids are positions in its category list.

No config of this toolbox needs it; code bases that read panoptic_<split>_trainId.json do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.coco_json import to_contiguous_ids, write_if_changed
from mmpanoptic.utils import jobs

EXAMPLES = """
  %(prog)s data/coco/annotations/panoptic_{train,val}2017.json --nproc 2
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("json", type=Path, nargs="+", metavar="PANOPTIC_JSON")
    parser.add("--out-dir", type=Path, help="default: beside each JSON")
    parser.take("nproc")
    return parser


def convert(out: Path | None, path: Path) -> str:
    """Convert one file and say so."""
    target = (out or path.parent) / f"{path.stem}_trainId.json"
    written = write_if_changed(target, to_contiguous_ids(path))
    return f"{target} ({'written' if written else 'was there'})"


def run(args: argparse.Namespace) -> Iterable[str]:
    """Convert every file."""
    return jobs.run(partial(convert, args.out_dir), args.json, args.nproc, "train ids")


main = cli.Command(build_parser, run)
