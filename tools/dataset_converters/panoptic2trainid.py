"""Make a panoptic JSON whose category ids are positions in its category list.

No config of this toolbox needs it; code bases that read panoptic_<split>_trainId.json do.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.coco_json import to_contiguous_ids, write_if_changed
from mmpanoptic.utils.jobs import run

EXAMPLES = """
  %(prog)s data/coco/annotations/panoptic_{train,val}2017.json --nproc 2
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("json", type=Path, nargs="+", metavar="PANOPTIC_JSON")
    parser.add_argument("--out-dir", type=Path, help="default: beside each JSON")
    return parser.parse_args(argv)


def convert(out: Path | None, path: Path) -> str:
    """Convert one file and say so."""
    target = (out or path.parent) / f"{path.stem}_trainId.json"
    written = write_if_changed(target, to_contiguous_ids(path))
    return f"{target} ({'written' if written else 'was there'})"


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)
    return report(lambda: run(partial(convert, args.out_dir), args.json, args.nproc, "train ids"))


if __name__ == "__main__":
    sys.exit(main())
