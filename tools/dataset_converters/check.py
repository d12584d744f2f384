"""Check a dataset in COCO-panoptic format: list every problem and what the dataset holds.

What training, testing and evaluation would refuse is an error here. Also checks predictions
(--prediction) and COCO instance JSONs. The exit status is 1 if there are errors, 0 if there are at
most warnings.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmpanoptic.datasets.converters.check_summary import (
    choose_examples,
    describe_balance,
    quantiles,
)
from mmpanoptic.datasets.converters.checking import (
    WARNING_KINDS,
    CheckReport,
    check_dataset,
    check_instances,
    repair,
)
from mmpanoptic.datasets.converters.cli import make_parser
from mmpanoptic.datasets.converters.panoptic_source import find_png_folder
from mmpanoptic.datasets.transforms import LoadImage
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.files import refuse_overwriting
from mmpanoptic.utils.format_errors import (
    FormatProblem,
    PanopticFormatError,
    PanopticFormatWarning,
    list_problems,
    write_report,
)
from mmpanoptic.utils.panoptic_png import read_panoptic_png
from mmpanoptic.visualization import GalleryEntry, draw_panoptic, index_of_ids, write_gallery

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
        "--html", type=Path, metavar="FOLDER", help="draw the worst and some other examples here"
    )
    parser.add_argument(
        "--max-shown",
        type=int,
        default=20,
        help="problems of a kind to print (default %(default)s)",
    )
    return parser.parse_args(argv)


def print_problems(title: str, problems: Sequence[FormatProblem], max_shown: int) -> None:
    """Print problems and, for each kind, what to do."""
    if problems:
        print(f"{len(problems)} {title}:", *list_problems(problems, max_shown), sep="\n")


def print_counts(report: CheckReport) -> None:
    """Print what the dataset holds, class by class."""
    if report.table is None:
        return
    names = ("id", "class", "kind", "images", "segments", "crowds", "% of area", "instance pixels")
    table = Table(*names, title=f"{report.images} images")
    for label in report.table:
        count = report.counts[label.index]
        if not count.segments:
            continue
        share = 100 * count.pixels / report.pixels if report.pixels else 0
        numbers = (count.images, count.segments, count.crowds)
        kind = "thing" if label.isthing else "stuff"
        row = (label.dataset_id, label.name, kind, *numbers, f"{share:.2f}", quantiles(count.sizes))
        table.add_row(*map(str, row))
    share = 100 * report.void / report.pixels if report.pixels else 0
    table.add_row("", "(void)", "", "", "", "", f"{share:.2f}", "")
    Console(width=120).print(table)
    print("instance pixels: smallest, 25 %, median, 75 %, largest")
    for text in describe_balance(report):
        print(text)


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
    """Tell a COCO instance JSON from a panoptic one, also if it is broken or empty."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return False
    entries: Any = content.get("annotations") if isinstance(content, dict) else None
    objects = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    if objects:
        panoptic = ("segments_info", "file_name")
        return not any(name in entry for entry in objects for name in panoptic)
    categories: Any = content.get("categories") if isinstance(content, dict) else None
    objects = [c for c in categories if isinstance(c, dict)] if isinstance(categories, list) else []
    return bool(objects) and not any("isthing" in category for category in objects)


def check(args: argparse.Namespace) -> int:
    """Check, print and repair; return the number of errors that are left."""
    outputs = [path for path in (args.report, args.html, args.fix) if path is not None]
    refuse_overwriting([args.json, *filter(None, [args.prediction])], outputs)
    if is_instance_json(args.json):
        return check_instance_json(args)
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
    if args.img_dir is None:
        print("the images were not looked at: name their folder with --img-dir")
    if args.report:
        write_report(args.report, [*errors, *odd])
    if args.html:
        print(f"wrote {write_page(args, report)}")
    if args.fix:
        return write_repaired(args, report)
    return len(errors)


def write_page(args: argparse.Namespace, report: CheckReport) -> Path:
    """Draw the worst and some random images on a page."""
    if not report.records:
        raise ValueError("--html: there is no image to draw")
    folder = find_png_folder(args.json, args.png_dir)

    def entries() -> Iterator[GalleryEntry]:
        for record, reason in choose_examples(report):
            picture = draw_example(record, folder, args.img_dir, report.table)
            yield GalleryEntry(f"{record['img_file']}: {reason}", picture)

    return write_gallery(args.html, entries(), f"Check of {args.json.name}", report.table)


def draw_example(
    record: dict[str, Any], folder: Path, img_dir: Path | None, table: LabelTable | None
) -> np.ndarray:
    """Draw an annotation over its image; what cannot be read or does not fit is left grey."""
    picture = np.full((record["height"], record["width"], 3), 128, np.uint8)
    if img_dir is not None:
        with contextlib.suppress(PanopticFormatError):
            sample = {"img_path": str(img_dir / record["img_file"])}
            loaded = LoadImage().transform(sample)["img"][..., ::-1]
            picture = loaded if loaded.shape == picture.shape else picture
    with contextlib.suppress(PanopticFormatError):
        ids = read_panoptic_png(folder / record["seg_file"])
        if table is not None and ids.shape == picture.shape[:2]:
            segments = record["segments_info"]
            index = index_of_ids(ids, segments)
            return draw_panoptic(np.ascontiguousarray(picture), index, segments, table)
    return picture


def check_instance_json(args: argparse.Namespace) -> int:
    """Check an instance JSON; return the number of errors."""
    problems, sizes = check_instances(args.json)
    errors = [problem for problem in problems if problem.kind not in WARNING_KINDS]
    odd = [problem for problem in problems if problem.kind in WARNING_KINDS]
    print_problems("errors", errors, args.max_shown)
    print_problems("warnings", odd, args.max_shown)
    table = Table("class", "instances", "pixels: smallest, 25 %, median, 75 %, largest")
    for name, areas in sizes.items():
        table.add_row(name, str(len(areas)), quantiles(areas))
    Console(width=120).print(table)
    if args.report:
        write_report(args.report, problems)
    return len(errors)


def write_repaired(args: argparse.Namespace, report: CheckReport) -> int:
    """Write the repaired copy and return the number of errors that are left in it."""
    if report.table is None:
        raise ValueError("nothing can be repaired before the JSON's categories are right")
    content = read_json(args.json)
    changes = repair(content, report)
    write_json(args.fix, content)
    what = ", ".join(f"{key} of {count} segments" for key, count in changes.items())
    print(f"wrote {args.fix}: {what or 'nothing to change'}")
    folder = find_png_folder(args.json, args.png_dir)
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
