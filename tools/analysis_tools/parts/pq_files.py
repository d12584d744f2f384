"""Panoptic quality of result files."""

from __future__ import annotations

import contextlib
import io
import itertools
import subprocess
import sys
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
    "threads: ours with one thread; case decode: cv2.imread of both maps and nothing else; cases "
    "panopticapi and hotcoco (if they are installed): pq_compute_single_core; PanopticEval; case "
    "process: a Python process that does nothing but hotcoco's evaluation, ours eval_panoptic.py."
)
PEERS = [name for name in ("panopticapi", "hotcoco") if find_spec(name)]
AGAINST = ["", "threads", "decode", *PEERS, *(["process"] if "hotcoco" in PEERS else [])]
CASES = {
    f"{name} {against}".rstrip(): {**SETS[name], "against": against}
    for name in SETS
    for against in AGAINST
}
HOTCOCO = """
import sys
from hotcoco.panoptic import PanopticEval
truth, prediction, truth_folder, prediction_folder = sys.argv[1:]
PanopticEval(truth, prediction, gt_folder=truth_folder, pred_folder=prediction_folder).run()
"""
TOOL = Path(__file__).resolve().parents[1] / "eval_panoptic.py"
TOOL_ARGUMENTS = ("--gt_json_file", "--pred_json_file", "--gt_folder", "--pred_folder")

Averages = dict[str, dict[str, float]]


def make_inputs(size: str = "default", against: str = "", **case: int) -> dict[str, Any]:
    """Write PNG files."""
    if against == "process" and size == "default":
        case["num_images"] *= 8
    workers = usable_cpus() if against in ("threads", "hotcoco") else 1
    return {"files": write_files(size, **case), "against": against, "workers": workers}


def baseline(inputs: dict[str, Any]) -> Averages | None:
    """Do what the case compares with."""
    runs: dict[str, Callable[..., Averages | None]] = {
        "": lambda *paths: reference.evaluate(*paths)[0],
        "threads": lambda *paths: partial(evaluate_files, workers=1)(*paths).quality.averages,
        "decode": decode_all,
        "panopticapi": run_panopticapi,
        "hotcoco": run_hotcoco,
        "process": lambda *paths: run_process("-c", HOTCOCO, *map(str, paths)),
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


def run_hotcoco(gt_json: Path, pred_json: Path, gt_folder: Path, pred_folder: Path) -> Averages:
    """Evaluate with hotcoco in this process, by all CPUs."""
    from hotcoco.panoptic import pq_compute

    with contextlib.redirect_stdout(io.StringIO()):
        found = pq_compute(str(gt_json), str(pred_json), str(gt_folder), str(pred_folder))
    return {group: found[group] for group in ("All", "Things", "Stuff")}


def run_process(*arguments: str) -> None:
    """Run Python with these arguments, and wait."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def ours(inputs: dict[str, Any]) -> Averages | None:
    """Evaluate the files."""
    if inputs["against"] == "process":
        paths = zip(TOOL_ARGUMENTS, map(str, inputs["files"].paths), strict=True)
        run_process(str(TOOL), *itertools.chain(*paths))
        return None
    evaluate = partial(evaluate_files, workers=inputs["workers"])
    return evaluate(*inputs["files"].paths).quality.averages


def check(expected: Averages | None, got: Averages | None) -> None:
    """Compare averages to their last bit but one: hotcoco adds the IoUs in another order.

    Equal bits are the matter of tests/parity; mere decoding and processes give nothing to compare.
    """
    for group, values in (expected or {}).items():
        if got is not None and any(abs(got[group][k] - v) > 1e-14 for k, v in values.items()):
            raise AssertionError(f"{got} != {expected}")
