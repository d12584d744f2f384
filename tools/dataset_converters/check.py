"""Check a dataset in COCO-panoptic format: list every problem and what the dataset holds.

Also checks predictions against it (--prediction) and the ids of COCO instance JSONs. The exit
status is 1 if there are errors, 0 if there are at most warnings.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.datasets.converters.checking import (
    CheckReport,
    check_dataset,
    check_instances,
    repair,
)
from mmpanoptic.evaluation.tables import render_table
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


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("json", type=Path, metavar="DATASET_JSON")
    parser.add("--png-dir", type=Path, help="default: the JSON's path without .json")
    parser.add("--img-dir", type=Path, help="also check existence and size of the images")
    parser.add("--prediction", type=Path, metavar="JSON", help="also check these predictions")
    parser.add(
        "--fix",
        type=Path,
        metavar="OUT_JSON",
        help="write a copy with areas, boxes and missing iscrowd corrected; it goes with the same "
        "PNGs, and the exit status tells whether errors are left in it",
    )
    parser.take("json", old=["--report"], dest="json_out", help="write all problems here, too")
    parser.add(
        "--max-shown",
        type=cli.at_least(0),
        default=100,
        help="problems to print (default %(default)s)",
    )
    parser.take("nproc")
    return parser


def describe_problems(
    title: str, problems: Sequence[FormatProblem], max_shown: int
) -> Iterator[str]:
    """List problems and, for each kind, what to do."""
    if not problems:
        return
    yield f"{len(problems)} {title}:"
    yield from (f"  {problem}" for problem in problems[:max_shown])
    if len(problems) > max_shown:
        yield f"  ... and {len(problems) - max_shown} more; see --max-shown and --json"
    for kind, count in Counter(problem.kind for problem in problems).items():
        yield f"  {kind} x {count}: {PROBLEM_KINDS[kind]}"


def describe_counts(report: CheckReport) -> Iterator[str]:
    """Say what the dataset holds, class by class."""
    if report.table is None:
        return
    rows: list[list[object]] = []
    for label in report.table:
        count = report.counts[label.index]
        if count.segments:
            kind = "thing" if label.isthing else "stuff"
            numbers = (count.images, count.segments, count.crowds, count.pixels)
            share = 100 * count.pixels / report.pixels
            mean = count.pixels // count.segments
            rows.append([label.name, label.dataset_id, kind, *numbers, share, mean])
    share = 100 * report.void / report.pixels if report.pixels else 0.0
    rows.append(["(void)", "", "", "", "", "", report.void, share, ""])
    names = ("class", "id", "kind", "images", "segments", "crowds", "pixels", "% of area", "mean")
    yield render_table(f"{report.images} images", names, rows)
    absent = [lb.name for lb in report.table if not report.counts[lb.index].segments]
    if absent:
        yield f"classes without a segment: {', '.join(absent)}"


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


def run(args: argparse.Namespace) -> Iterator[str]:
    """Check, report and repair.

    Raises:
        Failure: If errors are left.
    """
    if args.fix and args.fix.resolve() == args.json.resolve():
        raise cli.UsageError("--fix writes a copy: name another file than the dataset's own")
    report = None
    if is_instance_json(args.json):
        if args.fix or args.prediction:
            raise cli.UsageError(
                f"--fix and --prediction need a panoptic JSON; {args.json} is none"
            )
        errors, odd = check_instances(args.json), list[FormatProblem]()
    else:
        report = check_dataset(args.json, args.png_dir, args.img_dir, args.nproc, "check")
        errors, odd = all_problems(args, report)
    yield from describe_problems("errors", errors, args.max_shown)
    yield from describe_problems("warnings", odd, args.max_shown)
    if args.json_out:
        problems = [problem.to_dict() for problem in (*errors, *odd)]
        write_json(args.json_out, {"problems": problems}, indent=1)
    if report is not None:
        yield from describe_counts(report)
        if args.fix:
            errors, text = write_repaired(args, report)
            yield text
    if errors:
        raise cli.Failure(f"{args.fix or args.json} has {len(errors)} errors")
    yield "no errors"


def all_problems(
    args: argparse.Namespace, report: CheckReport
) -> tuple[list[FormatProblem], list[FormatProblem]]:
    """Collect errors and warnings of the dataset and of predictions; each problem once."""
    errors, odd = report.errors, report.warnings
    if args.prediction:
        worse, odder = check_predictions(args.json, args.prediction, args.png_dir, args.nproc)
        known = {(p.kind, p.image_id) for p in report.problems}
        errors = errors + [p for p in worse if (p.kind, p.image_id) not in known]
        odd = odd + [p for p in odder if (p.kind, p.image_id) not in known]
    return errors, odd


def write_repaired(
    args: argparse.Namespace, report: CheckReport
) -> tuple[list[FormatProblem], str]:
    """Write the repaired copy; return the errors that are left in it, and what was done."""
    if report.table is None:
        raise ValueError("nothing can be repaired before the JSON's categories are right")
    content = read_json(args.json)
    changes = repair(content, report)
    write_json(args.fix, content)
    what = ", ".join(f"{key} of {count} segments" for key, count in changes.items())
    folder = args.png_dir or args.json.with_suffix("")
    left = check_dataset(args.fix, folder, args.img_dir, args.nproc)
    return left.errors, (
        f"wrote {args.fix}: {what or 'nothing to change'}\n"
        f"{len(left.errors)} errors and {len(left.warnings)} warnings are left in it"
    )


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
