"""Report the errors of panoptic predictions: a page to look at and all figures as JSON.

Quality with intervals, where PQ is lost and what mending each kind of error would give, sizes,
crowding, confusion, scores, suspected label errors, and the images in the order of their loss.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s GT_JSON PRED_JSON IMAGES --out-dir report
  %(prog)s work_dirs/run --out-dir report            # a run: its own test data and predictions
  %(prog)s work_dirs/run --against work_dirs/base --out-dir report     # two runs, paired intervals

Look at OUT_DIR/index.html, which needs no server. Of a run the newest predictions below its folder
are taken (test.py --out-dir); where none is newer than its weights, it is tested first.
"""


class Files(NamedTuple):
    """What is compared: two JSONs with PNGs beside them, and images."""

    gt_json: Path
    gt_folder: Path
    pred_json: Path
    images: Path | None


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add(
        "words",
        nargs="+",
        metavar="RUN or GT_JSON PRED_JSON [IMAGES]",
        help="the folder of a run; or ground truth and predictions in COCO-panoptic format, PNGs "
        "in the folders of their names, and the folder of the images (without it they are grey)",
    )
    parser.add("--out-dir", type=Path, required=True, help="folder of the report")
    parser.add("--gt-folder", type=Path, help="PNGs of the ground truth (default: by its name)")
    parser.add(
        "--against", type=Path, metavar="RUN or PRED_JSON", help="a second run to compare with"
    )
    parser.add(
        "--num",
        type=cli.at_least(0),
        default=500,
        help="images to draw, those with the greatest loss; 0 for all (default %(default)s)",
    )
    parser.add(
        "--samples",
        type=cli.at_least(1),
        default=1000,
        help="draws of the bootstrap (default %(default)s)",
    )
    parser.add("--title", help="of the page (default: the name of the run or of the predictions)")
    parser.take("palette", "nproc", "cfg_options")
    return parser


def find_files(args: argparse.Namespace) -> Files:
    """Find out what to report.

    Raises:
        UsageError: If the words are no run and no files.
    """
    words = [Path(word) for word in args.words]
    if len(words) == 1 and words[0].is_dir():
        return files_of_run(words[0], args)
    if not 2 <= len(words) <= 3:
        raise cli.UsageError(
            "name the folder of a run, or GT_JSON PRED_JSON [IMAGES]; got "
            + " ".join(map(str, words))
        )
    if args.cfg_options and not (args.against and args.against.is_dir()):
        raise cli.UsageError("--cfg-options changes the config of a run; files have none")
    images = words[2] if len(words) == 3 else None
    if images is not None and not images.is_dir():
        raise cli.UsageError(f"{images} is no folder; IMAGES names that of the images")
    return Files(words[0], args.gt_folder or folder_of(words[0]), words[1], images)


def folder_of(path: Path) -> Path:
    """Name the folder of PNGs beside a JSON."""
    return Path(os.fspath(path).replace(".json", ""))


def files_of_run(run: Path, args: argparse.Namespace) -> Files:
    """Take the test data of a run's config, and its predictions.

    Raises:
        ValueError: If the test data have no ground truth.
    """
    from mmengine.registry import init_default_scope

    from mmpanoptic.apis import get_config
    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.registry import DATASETS

    cfg = resolve_config(get_config(run, args.cfg_options))
    init_default_scope("mmpanoptic")
    dataset = DATASETS.build({**cfg.test_dataloader.dataset, "lazy_init": True})
    prefix = dataset.data_prefix
    if not dataset.ann_file or not prefix.get("seg"):
        raise ValueError(f"the test data of {run} have no panoptic ground truth")
    gt_folder = args.gt_folder or Path(prefix["seg"])
    prediction = predictions_of_run(run, args)
    return Files(Path(dataset.ann_file), gt_folder, prediction, Path(prefix["img"]))


def predictions_of_run(run: Path, args: argparse.Namespace) -> Path:
    """Find the newest predictions of a run that are not older than its weights, or test it."""
    from mmpanoptic.apis.model import find_weights
    from mmpanoptic.checkpoints import CheckpointError

    found = list(run.rglob("*.panoptic.json"))
    try:
        weights = find_weights(run, None)
    except (OSError, CheckpointError):
        if not found:
            raise
        weights = None  # predictions alone are enough
    since = os.stat(weights).st_mtime if weights else 0.0
    found = [path for path in found if path.stat().st_mtime >= since]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    options = [f"{key}={value}" for key, value in (args.cfg_options or {}).items()]
    more = ["--cfg-options", *options] if options else []
    cli.call_tool("test.py", run, "--out-dir", run / "predictions", *more)
    return run / "predictions" / "predictions.panoptic.json"


def run(args: argparse.Namespace) -> Iterator[str]:
    """Analyse, compare, draw and say where."""
    from mmpanoptic.apis.error_report import KIND_NAMES, ReportInputs, describe_comparison
    from mmpanoptic.apis.error_report import write_report as write
    from mmpanoptic.datasets.converters.own_data import refuse_output
    from mmpanoptic.evaluation.panoptic_report import report_files

    files = find_files(args)
    if files.images is not None:
        refuse_output(args.out_dir, files.images, "--out-dir")
    yield f"ground truth {files.gt_json}, predictions {files.pred_json}"
    report = report_files(files.gt_json, files.pred_json, files.gt_folder, workers=args.nproc)
    other = None
    if args.against is not None:
        path = predictions_of_run(args.against, args) if args.against.is_dir() else args.against
        other = str(args.against), report_files(files.gt_json, path, files.gt_folder)
    inputs = ReportInputs(
        files.gt_json,
        files.gt_folder,
        folder_of(files.pred_json),
        files.images,
        args.palette,
        args.num,
        args.nproc,
        args.title or f"Errors of {args.words[0] if len(args.words) == 1 else args.words[1]}",
        [] if files.images else ["drawn on grey, since no folder of images was named"],
        args.samples,
        other,
    )
    figures = write(args.out_dir, report, inputs)
    quality = figures["quality"]["groups"]["All"]
    low, high = quality["intervals"]["pq"]
    yield f"PQ {100 * quality['pq']:.1f}, 95 % {100 * low:.1f} to {100 * high:.1f}"
    if other is not None:
        yield describe_comparison(figures["comparison"], other[0])
    for kind, row in figures["errors"]["kinds"].items():
        lost, mended = (100 * row[part]["All"] for part in ("lost", "mended"))
        yield f"  {KIND_NAMES[kind]:15} loses {lost:5.1f}; PQ {mended:5.1f} without it"
    shown = min(args.num or len(report.images), len(report.images))
    yield f"{shown} of {len(report.images)} images drawn; look at {args.out_dir / 'index.html'}"


main = cli.Command(build_parser, run)
