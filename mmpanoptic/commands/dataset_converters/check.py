"""Check a dataset in COCO-panoptic format: list every problem and what the dataset holds.

What training, testing and evaluation would refuse is an error here. Also checks predictions
(--prediction) and COCO instance JSONs. The exit status is 1 if there are errors, 0 if there are at
most warnings.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpanoptic import cli
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
from mmpanoptic.datasets.converters.own_data import refuse_output
from mmpanoptic.datasets.converters.panoptic_source import find_png_folder
from mmpanoptic.datasets.object_sizes import measure_object_sizes
from mmpanoptic.evaluation.tables import render_table
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

if TYPE_CHECKING:
    from mmpanoptic.visualization import GalleryEntry

SIZES = "sizes of instances in pixels: smallest, 25 %, median, 75 %, largest"

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
    parser.add("--img-dir", type=Path, help="also load the images, as training does")
    parser.add("--prediction", type=Path, metavar="JSON", help="also check these predictions")
    parser.add(
        "--fix",
        type=Path,
        metavar="OUT_JSON",
        help="write a copy with areas, boxes and missing iscrowd corrected; it goes with the same "
        "PNGs, and the exit status tells whether errors are left in it",
    )
    parser.add("--report", "--json", type=Path, metavar="FILE", help="write all problems here, too")
    parser.add(
        "--html", type=Path, metavar="FOLDER", help="draw the worst and some other examples here"
    )
    parser.add(
        "--max-shown",
        type=cli.at_least(0),
        default=20,
        help="problems of a kind to print (default %(default)s)",
    )
    parser.take("nproc")
    return parser


def describe_problems(
    title: str, problems: Sequence[FormatProblem], max_shown: int
) -> Iterator[str]:
    """List problems and, for each kind, what to do."""
    if problems:
        yield f"{len(problems)} {title}:"
        yield from list_problems(problems, max_shown)


def describe_counts(report: CheckReport) -> Iterator[str]:
    """Say what the dataset holds, class by class."""
    if report.table is None:
        return
    rows: list[list[object]] = []
    for label in report.table:
        count = report.counts[label.index]
        if count.segments:
            kind = "thing" if label.isthing else "stuff"
            numbers = (count.images, count.segments, count.crowds)
            share = 100 * count.pixels / max(report.pixels, 1)
            sizes = quantiles(count.sizes)
            rows.append([label.name, label.dataset_id, kind, *numbers, share, sizes])
    share = 100 * report.void / report.pixels if report.pixels else 0.0
    rows.append(["(void)", "", "", "", "", "", share, ""])
    names = ("class", "id", "kind", "images", "segments", "crowds", "% of area", "sizes")
    yield render_table(f"{report.images} images", names, rows)
    yield SIZES
    yield from describe_balance(report)


def describe_settings(path: Path) -> Iterator[str]:
    """Say what configs for own data take from the sizes, and how to take something else."""
    sizes = measure_object_sizes(path)
    yield f"what the configs for your own data make of {sizes.describe()}:"
    yield from (f"  {name} = {value}" for name, value in sizes.settings().items())
    yield "take another value with --cfg-options size_sigma=5, for instance"
    if sizes.is_fine():
        yield (
            "many of the things are small: panoptic-fpn-modern_r18-fine_1xb4-800_own and "
            "panoptic-deeplab_r18-fine_1xb4-1k_own have finer cells and take half of "
            "size_short_edge"
        )


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


def run(args: argparse.Namespace) -> Iterator[str]:
    """Check, report and repair.

    Raises:
        Failure: If errors are left.
    """
    outputs = [path for path in (args.report, args.html, args.fix) if path is not None]
    refuse_overwriting(filter(None, [args.json, args.prediction]), outputs)
    for folder in filter(None, (args.img_dir, args.png_dir)):
        if args.html:
            refuse_output(args.html, folder, "--html")
    report, lines = None, list[str]()
    if is_instance_json(args.json):
        if args.fix or args.prediction or args.html:
            raise cli.UsageError(
                f"--fix, --prediction and --html need a panoptic JSON; {args.json} is none"
            )
        problems, sizes = check_instances(args.json)
        errors, odd = divide(problems)
        rows = [[name, len(areas), quantiles(areas)] for name, areas in sizes.items()]
        lines = [render_table("", ("class", "instances", "sizes"), rows), SIZES] if rows else []
    else:
        report = check_dataset(args.json, args.png_dir, args.img_dir, args.nproc, "check")
        errors, odd = all_problems(args, report)
    yield from describe_problems("errors", errors, args.max_shown)
    yield from describe_problems("warnings", odd, args.max_shown)
    if args.report:
        write_report(args.report, [*errors, *odd])
    yield from lines
    if report is not None:
        yield from describe_counts(report)
        if not errors:
            yield from describe_settings(args.json)
        if args.img_dir is None:
            yield "the images were not looked at: name their folder with --img-dir"
        if args.html:
            yield f"wrote {write_page(args, report)}"
        if args.fix:
            errors, text = write_repaired(args, report)
            yield text
    if errors:
        raise cli.Failure(f"{args.fix or args.json} has {len(errors)} errors")
    yield "no errors"


def divide(
    problems: Sequence[FormatProblem],
) -> tuple[list[FormatProblem], list[FormatProblem]]:
    """Tell errors from warnings."""
    errors = [problem for problem in problems if problem.kind not in WARNING_KINDS]
    return errors, [problem for problem in problems if problem.kind in WARNING_KINDS]


def write_page(args: argparse.Namespace, report: CheckReport) -> Path:
    """Draw the worst and some random images on a page."""
    from mmpanoptic.visualization import GalleryEntry, write_gallery

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
    from mmpanoptic.datasets.transforms import LoadImage
    from mmpanoptic.visualization import draw_panoptic, index_of_ids

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
    folder = find_png_folder(args.json, args.png_dir)
    left = check_dataset(args.fix, folder, args.img_dir, args.nproc)
    return left.errors, (
        f"wrote {args.fix}: {what or 'nothing to change'}\n"
        f"{len(left.errors)} errors and {len(left.warnings)} warnings are left in it"
    )


main = cli.Command(build_parser, run)
