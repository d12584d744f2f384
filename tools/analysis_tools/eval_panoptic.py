#!/usr/bin/env python
"""Compute panoptic quality of result files in COCO-panoptic format.

The first four arguments are those of cocodataset/panopticapi, and so are the bits of the result,
for any number of workers.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmpanoptic.evaluation import (
    FileEvaluation,
    PanopticFormatError,
    PanopticFormatWarning,
    evaluate_files,
)
from mmpanoptic.evaluation.panoptic_tables import class_table, group_table, worst_table
from mmpanoptic.utils import atomic_write, write_json

NO_PANOPTICAPI = """--check-against-panopticapi needs the package panopticapi, which is not on PyPI:
  pip install git+https://github.com/cocodataset/panopticapi.git"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--gt_json_file", required=True, help="ground truth in COCO-panoptic format")
    add("--pred_json_file", required=True, help="predictions in COCO-panoptic format")
    add("--gt_folder", help="PNGs of the ground truth (default: the JSON's path without .json)")
    add("--pred_folder", help="PNGs of the predictions (default: likewise)")
    add("--workers", type=int, help="threads (default: the CPUs this process may use)")
    add(
        "--parity",
        action="store_true",
        help="follow panopticapi where it turns broken input into a number, and warn",
    )
    add(
        "--fill-missing-fields",
        action="store_true",
        help="count the pixels where the ground truth lacks area; take a missing iscrowd as 0",
    )
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    add(
        "--per-image",
        type=Path,
        metavar="FILE",
        help="write one row per image; .csv or .json by the name",
    )
    add("--worst", type=int, default=0, metavar="N", help="list the N images with the lowest PQ")
    add(
        "--check-against-panopticapi",
        action="store_true",
        help="run panopticapi (one process) as well and compare the bits",
    )
    args = parser.parse_args(argv)
    if args.per_image is not None and args.per_image.suffix not in (".csv", ".json"):
        parser.error(f"--per-image must end in .csv or .json, got {args.per_image}")
    if args.workers is not None and args.workers < 1:
        parser.error(f"--workers must be at least 1, got {args.workers}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and report; 0 on success, 1 on broken input or differing bits."""
    args = parse_args(argv)
    if args.check_against_panopticapi and find_spec("panopticapi") is None:
        print(NO_PANOPTICAPI, file=sys.stderr)
        return 1
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PanopticFormatWarning)
            result = evaluate_files(
                args.gt_json_file,
                args.pred_json_file,
                args.gt_folder,
                args.pred_folder,
                args.workers,
                strict=not args.parity,
                fill_missing=args.fill_missing_fields,
            )
    except PanopticFormatError as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begin
    print(class_table(result.quality, result.categories))
    print(group_table(result.quality))
    if args.worst:
        print(worst_table(result.per_image, args.worst))
    print(f"{len(result.per_image)} images in {seconds:.2f} s")
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    if args.json is not None:
        write_json(args.json, result.to_dict(), indent=1)
    if args.per_image is not None:
        write_per_image(args.per_image, result)
    return check_against_panopticapi(args, result) if args.check_against_panopticapi else 0


def write_per_image(path: Path, result: FileEvaluation) -> None:
    """Write one row per image: PQ, SQ, RQ, number of classes, and counts over all classes."""
    rows = []
    for image in result.to_dict()["per_image"]:
        stats = image.pop("stats")
        counts = {key: sum(part[key] for part in stats.values()) for key in ("tp", "fp", "fn")}
        rows.append({**image, **counts})
    if path.suffix == ".json":
        write_json(path, rows, indent=1)
        return
    text = io.StringIO()
    names = ["image_id", "file_name", "pq", "sq", "rq", "n", "tp", "fp", "fn"]
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def check_against_panopticapi(args: argparse.Namespace, result: FileEvaluation) -> int:
    """Compare with panopticapi's single-process computation, bit by bit."""
    from panopticapi import evaluation

    reference = run_panopticapi(evaluation, args)
    differences = [
        f"{group} {key}: ours {ours!r}, panopticapi {reference[group][key]!r}"
        for group, values in result.quality.averages.items()
        for key, ours in values.items()
        if group in reference and reference[group][key] != ours
    ]
    print("\n".join(differences) or "panopticapi computes the same bits")
    return 1 if differences else 0


def run_panopticapi(evaluation: Any, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run the published computation in this process, and leave out its empty groups."""
    gt = json.loads(Path(args.gt_json_file).read_text(encoding="utf-8"))
    pred = json.loads(Path(args.pred_json_file).read_text(encoding="utf-8"))
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


if __name__ == "__main__":
    sys.exit(main())
