"""Compute the mean IoU of label maps.

Both folders hold grey (8 or 16 bits) or palette PNGs with one label per pixel, 0 to C-1; other
values are void. A prediction belongs to the ground truth whose name (without --gt-suffix) it
starts with. Label maps of a panoptic dataset: tools/dataset_converters/coco_panoptic2semantic.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.evaluation.part_contents import semantic_part
from mmpanoptic.evaluation.semantic_files import (
    REDUCE_ZERO_LABEL,
    LabelMapFolders,
    SemanticFileCounts,
    evaluate_semantic_files,
)
from mmpanoptic.evaluation.semantic_iou import DEFINITIONS, semantic_scores, semantic_table
from mmpanoptic.evaluation.tables import to_percent

from ._part_options import add_part_options, save_part

EXAMPLES = """
  %(prog)s annotations/val predictions/val --num-classes 133
  %(prog)s data/cityscapes/gtFine/val predictions --num-classes 19 \\
      --gt-suffix _gtFine_labelTrainIds.png --definition mmseg detectron2
  %(prog)s data/ade/annotations/validation predictions --classes ade150.txt \\
      --reduce-zero-label truth
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("truth", type=Path, metavar="GT", help="folder of the ground truth")
    parser.add("predictions", type=Path, metavar="PRED", help="folder of the predictions")
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument(
        "--num-classes", type=cli.at_least(1), metavar="C", help="number of classes"
    )
    classes.add_argument(
        "--classes", type=Path, metavar="FILE", help="text file with one class name per line"
    )
    parser.add("--gt-suffix", default=".png", help="end of names (default %(default)s)")
    parser.add("--pred-suffix", default=".png", help="end of names (default %(default)s)")
    parser.add(
        "--definition",
        nargs="+",
        default=["mmseg"],
        choices=list(DEFINITIONS),
        help="which classes to average (default: mmseg); the table shows the first",
    )
    parser.add(
        "--reduce-zero-label",
        default="none",
        choices=REDUCE_ZERO_LABEL,
        help="maps in which 0 is void and 1 the first class (default: none)",
    )
    parser.take("nproc")
    parser.take("json", help="write all numbers, unrounded, in percent")
    add_part_options(parser)
    return parser


def class_names(args: argparse.Namespace) -> list[str]:
    """Read the names of the classes, or number them."""
    if args.classes is None:
        return [str(index) for index in range(args.num_classes)]
    lines = args.classes.read_text(encoding="utf-8-sig").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{args.classes} names no class; write one name per line")
    return names


def describe_void(outside: dict[int, int], evaluated: int) -> list[str]:
    """Say which values of the ground truth are no class; their pixels never count."""
    total = sum(outside.values())
    if not total:
        return []
    shown = ", ".join(f"{value} ({count:,})" for value, count in list(outside.items())[:10])
    share = 100 * total / (total + evaluated)
    text = (
        f"void: {total:,} pixels of the ground truth ({share:.2f} %) have values that are no "
        f"class: {shown}"
    )
    return [f"{text}{', ...' if len(outside) > 10 else ''}"]


def run(args: argparse.Namespace) -> Iterator[str]:
    """Evaluate the folders that the arguments name."""
    names = class_names(args)
    folders = LabelMapFolders(args.truth, args.predictions, args.gt_suffix, args.pred_suffix)
    choose = None if args.part is None else args.part.positions
    counts = evaluate_semantic_files(
        folders, len(names), args.reduce_zero_label, args.nproc, "images", choose
    )
    yield from report(args, counts, names)
    settings = {"reduce_zero_label": args.reduce_zero_label}
    yield from save_part(args, lambda: semantic_part(counts, names, settings))


def report(args: argparse.Namespace, counts: SemanticFileCounts, names: list[str]) -> Iterator[str]:
    """Show the scores of pixel counts, and write ``--json``."""
    matrix = counts.matrix
    scores = {name: semantic_scores(matrix, name) for name in args.definition}
    first = scores[args.definition[0]]
    lines = [semantic_table(first, names, args.definition[0])]
    for name, result in scores.items():
        values = result.averages().items()
        lines.append(f"{name}: " + ", ".join(f"{key} {100 * value:.3f}" for key, value in values))
    lines += describe_void(counts.void, int(matrix.sum()))
    absent = [name for name, row in zip(names, matrix, strict=True) if not row.sum()]
    if absent:
        lines.append(f"warning: without a pixel in the ground truth: {', '.join(absent)}")
    void = int(matrix[:, -1].sum())
    if void:
        lines.append(f"{void:,} evaluated pixels are predicted as no class")
    lines.append(f"{counts.num_images} images, {int(matrix.sum()):,} evaluated pixels")
    numbers = {
        "averages": {name: result.averages() for name, result in scores.items()},
        "class_iou": dict(zip(names, first.iou.tolist(), strict=True)),
        "class_accuracy": dict(zip(names, first.accuracy.tolist(), strict=True)),
        "matrix": matrix.tolist(),
    }
    yield "\n".join(lines)
    cli.save_json(args, to_percent(numbers))


main = cli.Command(build_parser, run)
