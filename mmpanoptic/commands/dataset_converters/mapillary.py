"""Check a copy of Mapillary Vistas and say how to configure it; optionally write label maps.

The panoptic files are COCO panoptic already. --semantic writes grey label maps with contiguous
labels (void 255) into the folder semantic beside labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.checking import check_dataset
from mmpanoptic.datasets.converters.mapillary import (
    SPLITS,
    VERSIONS,
    VistasSplit,
    check_vistas,
    find_vistas,
    make_semantic,
)
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError

EXAMPLES = """
  %(prog)s data/mapillary_vistas
  %(prog)s data/mapillary_vistas --version 2.0 --deep --nproc 8
  %(prog)s data/mapillary_vistas --semantic --labels
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("root", type=Path, metavar="ROOT", help="folder of Mapillary Vistas")
    parser.add("--version", choices=VERSIONS, help="default: those that are there")
    parser.add("--split", nargs="+", choices=SPLITS, help="default: those that are there")
    parser.add("--deep", action="store_true", help="also decode and check every PNG")
    parser.add("--semantic", action="store_true", help="write label maps")
    parser.add("--labels", action="store_true", help="print the table of the classes")
    parser.take("nproc")
    return parser


def describe_labels(table: LabelTable) -> Iterator[str]:
    """Describe the table of the classes, one line each."""
    yield "  label  category_id  value in labels/  kind   name"
    for label in table:
        kind = "thing" if label.isthing else "stuff"
        numbers = f"{label.index:7d}{label.dataset_id:13d}{label.dataset_id - 1:18d}"
        yield f"{numbers}  {kind}  {label.name}"


def check(args: argparse.Namespace, files: VistasSplit) -> Iterator[str]:
    """Check one split.

    Raises:
        PanopticFormatError: With all problems.
    """
    table, count, problems = check_vistas(files)
    if args.deep and not problems:
        label = f"check {files.split} v{files.version}"
        problems = check_dataset(files.json, files.panoptic, files.images, args.nproc, label).errors
    if problems:
        raise PanopticFormatError(problems)
    yield f"{files.split} v{files.version}: {count} images, {table}, no problems"
    yield f"  ann_file    {files.json.relative_to(args.root)}"
    yield f"  data_prefix img={files.images.relative_to(args.root)}/"
    yield f"              seg={files.panoptic.relative_to(args.root)}/"
    if args.labels:
        yield from describe_labels(table)
    if args.semantic:
        yield str(make_semantic(files, table, args.nproc))


def run(args: argparse.Namespace) -> Iterator[str]:
    """Check what the arguments ask for; problems of all splits come together."""
    problems: list[FormatProblem] = []
    chosen = [
        files
        for files in find_vistas(args.root)
        if files.version == (args.version or files.version)
        and (not args.split or files.split in args.split)
    ]
    if not chosen:
        raise ValueError(f"{args.root} has no such split or version")
    for files in chosen:
        try:
            yield from check(args, files)
        except PanopticFormatError as error:
            problems += error.problems
    if problems:
        raise PanopticFormatError(problems)


main = cli.Command(build_parser, run)
