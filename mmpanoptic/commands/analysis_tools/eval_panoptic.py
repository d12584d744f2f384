"""Compute panoptic quality of result files in COCO-panoptic format.

The first four arguments are those of cocodataset/panopticapi, and so are the bits of the result,
for any number of workers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli
from mmpanoptic.evaluation import FileEvaluation, evaluate_files
from mmpanoptic.evaluation.panoptic_tables import (
    class_table,
    group_table,
    worst_table,
    write_per_image,
)
from mmpanoptic.utils import read_json
from mmpanoptic.utils.format_errors import PanopticFormatError

from ._part_options import add_part_options, save_part

if TYPE_CHECKING:
    from mmpanoptic.evaluation.parts import EvaluationPart

EXAMPLES = """
  %(prog)s --gt_json_file panoptic_val.json --pred_json_file predictions.panoptic.json
  %(prog)s --gt_json_file GT --pred_json_file PRED --per-image rows.csv --worst 20
  %(prog)s --gt_json_file GT --pred_json_file PRED --part 2/8 --save-part part2.json
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("--gt_json_file", required=True, help="ground truth in COCO-panoptic format")
    parser.add("--pred_json_file", required=True, help="predictions in COCO-panoptic format")
    parser.add(
        "--gt_folder", help="PNGs of the ground truth (default: the JSON's path without .json)"
    )
    parser.add("--pred_folder", help="PNGs of the predictions (default: likewise)")
    parser.take("nproc", old=["--workers"])
    parser.add(
        "--parity",
        action="store_true",
        help="follow panopticapi where it turns broken input into a number, and warn",
    )
    parser.add(
        "--fill-missing-fields",
        action="store_true",
        help="count the pixels where the ground truth lacks area; take a missing iscrowd as 0",
    )
    add_output_options(parser)
    add_part_options(parser)
    parser.add(
        "--check-against-panopticapi",
        action="store_true",
        help="run panopticapi (one process) as well and compare the bits",
    )
    return parser


def add_output_options(parser: cli.Parser) -> None:
    """Let a command say where figures of panoptic quality go."""
    parser.take("json", help="write everything as JSON")
    parser.take("per_image")
    parser.add(
        "--worst",
        type=cli.at_least(0),
        default=0,
        metavar="N",
        help="list the N images with the lowest PQ",
    )


def run(args: argparse.Namespace) -> Iterator[str]:
    """Evaluate and report.

    Raises:
        Failure: If panopticapi computes other bits.
        UsageError: If a part is to be compared.
    """
    if args.check_against_panopticapi and args.part is not None:
        raise cli.UsageError("--check-against-panopticapi compares the whole; leave out --part")
    if args.check_against_panopticapi and find_spec("panopticapi") is None:
        raise ImportError(
            "--check-against-panopticapi needs panopticapi: pip install --no-deps panopticapi-lite "
            "(without its dependencies, of which it asks for old versions)"
        )
    result = evaluate_files(
        args.gt_json_file,
        args.pred_json_file,
        args.gt_folder,
        args.pred_folder,
        args.nproc,
        strict=not args.parity,
        fill_missing=args.fill_missing_fields,
        choose=None if args.part is None else args.part.positions,
    )
    # Like the reference, the function returns nan; a command that succeeds has a result.
    empty = [p for p in result.warnings if p.kind == "empty_annotation" and not args.parity]
    if empty and args.part is None:
        raise PanopticFormatError(empty)
    yield from report(args, result)
    settings = {"parity": args.parity, "fill_missing_fields": args.fill_missing_fields}
    yield from save_part(args, lambda: make_part(args, result, settings))
    if args.check_against_panopticapi:
        check_against_panopticapi(args, result)
        yield "panopticapi computes the same bits"


def make_part(
    args: argparse.Namespace, result: FileEvaluation, settings: dict[str, Any]
) -> EvaluationPart:
    """Keep what the images contribute; few runs ask for it, and its imports are slow."""
    from mmpanoptic.evaluation.part_contents import panoptic_part

    return panoptic_part(result, args.gt_json_file, settings)


def report(args: argparse.Namespace, result: FileEvaluation) -> Iterator[str]:
    """Show a result and write what :func:`add_output_options` asks for."""
    yield class_table(result.quality, result.categories)
    yield group_table(result.quality)
    if args.worst:
        yield worst_table(result.per_image, args.worst)
    yield f"{len(result.images)} images"
    if args.json is not None:
        cli.save_json(args, result.to_dict())
    if args.per_image is not None:
        write_per_image(args.per_image, result.per_image)


def check_against_panopticapi(args: argparse.Namespace, result: FileEvaluation) -> None:
    """Compare with panopticapi's single-process computation, bit by bit.

    Raises:
        Failure: If there are differences.
    """
    from panopticapi import evaluation

    reference = run_panopticapi(evaluation, args)
    differences = [
        f"{group} {key}: ours {ours!r}, panopticapi {reference[group][key]!r}"
        for group, values in result.quality.averages.items()
        for key, ours in values.items()
        if group in reference and reference[group][key] != ours
    ]
    if differences:
        raise cli.Failure("\n".join(["panopticapi computes other bits:", *differences]))


def run_panopticapi(evaluation: Any, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run the published computation in this process, and leave out its empty groups."""
    gt = read_json(args.gt_json_file)
    pred = read_json(args.pred_json_file)
    categories = {category["id"]: category for category in gt["categories"]}
    predictions = {annotation["image_id"]: annotation for annotation in pred["annotations"]}
    pairs = [(entry, predictions[entry["image_id"]]) for entry in gt["annotations"]]
    folders = (
        args.gt_folder or args.gt_json_file.replace(".json", ""),
        args.pred_folder or args.pred_json_file.replace(".json", ""),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        stat = evaluation.pq_compute_single_core(0, pairs, *folders, categories)
    averages = {}
    for name, isthing in (("All", None), ("Things", True), ("Stuff", False)):
        with contextlib.suppress(ZeroDivisionError):
            averages[name] = stat.pq_average(categories, isthing=isthing)[0]
    return averages


main = cli.Command(build_parser, run)
