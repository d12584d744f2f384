"""Check a dataset in COCO-panoptic format: list every problem and what the dataset holds.

Also checks predictions against it (--prediction) and the ids of COCO instance JSONs. The exit
status is 1 if there are errors, 0 if there are at most warnings.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmpanoptic.datasets.converters.checking import (
    CheckReport,
    check_dataset,
    check_instances,
    repair,
)
from mmpanoptic.datasets.converters.cli import make_parser
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.format_errors import (
    PROBLEM_KINDS,
    FormatProblem,
    PanopticFormatError,
    PanopticFormatWarning,
)

EXAMPLES = """
  %(prog)s data/coco/annotations/panoptic_val2017.json --img-dir data/coco/val2017
  %(prog)s annotations/panoptic_train.json --fix annotations/panoptic_train_fixed.json
  %(prog)s annotations/panoptic_val.json --prediction work_dirs/results/panoptic.json
  %(prog)s annotations/instances_train.json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("json", type=Path, metavar="DATASET_JSON")
    parser.add_argument("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.add_argument("--img-dir", type=Path, help="also check existence and size of the images")
    parser.add_argument(
        "--prediction", type=Path, metavar="JSON", help="also check these predictions"
    )
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="OUT_JSON",
        help="write a copy with areas, boxes and missing iscrowd corrected; it goes with the same "
        "PNGs, and the exit status tells whether errors are left in it",
    )
    parser.add_argument("--report", type=Path, metavar="JSON", help="write all problems here, too")
    parser.add_argument(
        "--max-shown", type=int, default=100, help="problems to print (default %(default)s)"
    )
    return parser.parse_args(argv)


def print_problems(title: str, problems: Sequence[FormatProblem], max_shown: int) -> None:
    """Print problems and, for each kind, what to do."""
    if not problems:
        return
    print(f"{len(problems)} {title}:")
    for problem in problems[:max_shown]:
        print(f"  {problem}")
    if len(problems) > max_shown:
        print(f"  ... and {len(problems) - max_shown} more; see --max-shown and --report")
    for kind in dict.fromkeys(problem.kind for problem in problems):
        count = sum(problem.kind == kind for problem in problems)
        print(f"  {kind} x {count}: {PROBLEM_KINDS[kind]}")


def print_counts(report: CheckReport) -> None:
    """Print what the dataset holds, class by class."""
    if report.table is None:
        return
    names = ("id", "class", "kind", "images", "segments", "crowds", "pixels", "% of area", "mean")
    table = Table(*names, title=f"{report.images} images")
    for label in report.table:
        count = report.counts[label.index]
        if not count.segments:
            continue
        share = 100 * count.pixels / report.pixels if report.pixels else 0
        mean = count.pixels // count.segments
        numbers = (count.images, count.segments, count.crowds, count.pixels)
        kind = "thing" if label.isthing else "stuff"
        row = (label.dataset_id, label.name, kind, *numbers, f"{share:.2f}", mean)
        table.add_row(*map(str, row))
    share = 100 * report.void / report.pixels if report.pixels else 0
    table.add_row("", "(void)", "", "", "", "", str(report.void), f"{share:.2f}", "")
    Console(width=120).print(table)
    absent = [lb.name for lb in report.table if not report.counts[lb.index].segments]
    if absent:
        print(f"classes without a segment: {', '.join(absent)}")


def check_predictions(
    truth: Path, prediction: Path, folder: Path | None, nproc: int
) -> tuple[list[FormatProblem], list[FormatProblem]]:
    """Return errors and warnings of evaluating the predictions."""
    from mmpanoptic.evaluation.panoptic_files import evaluate_files

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PanopticFormatWarning)  # they are in the result
        try:
            result = evaluate_files(truth, prediction, folder, workers=nproc, fill_missing=True)
        except PanopticFormatError as error:
            return list(error.problems), []
    return [], result.warnings


def is_instance_json(path: Path) -> bool:
    """Tell a COCO instance JSON from a panoptic one."""
    content = read_json(path)
    entries: Any = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        return False
    return "segments_info" not in entries[0] and "segmentation" in entries[0]


def check(args: argparse.Namespace) -> int:
    """Check, print and repair; return the number of errors that are left."""
    if is_instance_json(args.json):
        errors = check_instances(args.json)
        print_problems("errors", errors, args.max_shown)
        return len(errors)
    report = check_dataset(args.json, args.png_dir, args.img_dir, args.nproc, "check")
    errors, odd = report.errors, report.warnings
    if args.prediction:
        worse, odder = check_predictions(args.json, args.prediction, args.png_dir, args.nproc)
        known = {(p.kind, p.image_id) for p in report.problems}
        errors = errors + [p for p in worse if (p.kind, p.image_id) not in known]
        odd = odd + [p for p in odder if (p.kind, p.image_id) not in known]
    print_problems("errors", errors, args.max_shown)
    print_problems("warnings", odd, args.max_shown)
    print_counts(report)
    if args.report:
        write_json(args.report, {"problems": [p.to_dict() for p in (*errors, *odd)]}, indent=1)
    if args.fix:
        return write_repaired(args, report)
    return len(errors)


def write_repaired(args: argparse.Namespace, report: CheckReport) -> int:
    """Write the repaired copy and return the number of errors that are left in it."""
    if args.fix.resolve() == args.json.resolve():
        raise ValueError("--fix writes a copy: name another file than the dataset's own")
    if report.table is None:
        raise ValueError("nothing can be repaired before the JSON's categories are right")
    content = read_json(args.json)
    changes = repair(content, report)
    write_json(args.fix, content)
    what = ", ".join(f"{key} of {count} segments" for key, count in changes.items())
    print(f"wrote {args.fix}: {what or 'nothing to change'}")
    folder = args.png_dir or args.json.with_suffix("")
    left = check_dataset(args.fix, folder, args.img_dir, args.nproc)
    print(f"{len(left.errors)} errors and {len(left.warnings)} warnings are left in it")
    return len(left.errors)


def main(argv: list[str] | None = None) -> int:
    """Check and return the exit status."""
    args = parse_args(argv)
    try:
        errors = check(args)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not errors:
        print("no errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
