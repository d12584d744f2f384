"""Panoptic quality of result files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2

from mmpanoptic.evaluation import evaluate_files
from mmpanoptic.utils.jobs import usable_cpus
from tests.reference import panoptic_quality as reference
from tests.reference.panoptic_files import CASES as SETS
from tests.reference.panoptic_files import write_files

DESCRIPTION = "evaluate_files, one thread; case threads: as many as usable CPUs."
BASELINE = (
    "the published procedure: both maps from PNG files, sorted pairs of ids, one process; case "
    "threads: ours with one thread; case decode: cv2.imread of both maps and nothing else; case "
    "panopticapi (if it is installed): pq_compute_single_core."
)
AGAINST = ["", "threads", "decode", *(["panopticapi"] if find_spec("panopticapi") else [])]
CASES = {
    f"{name} {against}".rstrip(): {**SETS[name], "against": against}
    for name in SETS
    for against in AGAINST
}

Averages = dict[str, dict[str, float]]


def make_inputs(size: str = "default", against: str = "", **case: int) -> dict[str, Any]:
    """Write PNG files."""
    workers = usable_cpus() if against == "threads" else 1
    return {"files": write_files(size, **case), "against": against, "workers": workers}


def baseline(inputs: dict[str, Any]) -> Averages | None:
    """Do what the case compares with."""
    runs: dict[str, Callable[..., Averages | None]] = {
        "": lambda *paths: reference.evaluate(*paths)[0],
        "threads": lambda *paths: partial(evaluate_files, workers=1)(*paths).quality.averages,
        "decode": decode_all,
        "panopticapi": run_panopticapi,
    }
    return runs[inputs["against"]](*inputs["files"].paths)


def decode_all(gt_json: Path, pred_json: Path, gt_folder: Path, pred_folder: Path) -> None:
    """Decode all PNGs."""
    for folder in (gt_folder, pred_folder):
        for path in sorted(folder.glob("*.png")):
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def run_panopticapi(gt_json: Path, pred_json: Path, gt_folder: Path, pred_folder: Path) -> Averages:
    """Evaluate with panopticapi in this process."""
    from panopticapi.evaluation import pq_compute_single_core

    from mmpanoptic.utils import read_json

    truth, prediction = read_json(gt_json), read_json(pred_json)
    categories = {category["id"]: category for category in truth["categories"]}
    found = {entry["image_id"]: entry for entry in prediction["annotations"]}
    pairs = [(entry, found[entry["image_id"]]) for entry in truth["annotations"]]
    stat = pq_compute_single_core(0, pairs, str(gt_folder), str(pred_folder), categories)
    groups = {"All": None, "Things": True, "Stuff": False}
    return {name: stat.pq_average(categories, isthing)[0] for name, isthing in groups.items()}


def ours(inputs: dict[str, Any]) -> Averages:
    """Evaluate the files."""
    evaluate = partial(evaluate_files, workers=inputs["workers"])
    return evaluate(*inputs["files"].paths).quality.averages


def check(expected: Averages | None, got: Averages) -> None:
    """Compare bits; mere decoding gives nothing to compare."""
    if expected is not None and got != expected:
        raise AssertionError(f"{got} != {expected}")
