"""Measure how far rounding moves what the parity tests compare; write the table of tolerances.

    python -m tests.parity.measure_rounding            # runs the tests, hours on a busy machine
    python -m tests.parity.measure_rounding --again    # only reads what is there already

The tests run in float64 and in every setting of ``tests/parity/settings.py``, on the golden files
and on those that ``tests/parity/make_fixtures.py`` makes, and once with each fault. The spread of
a quantity is the widest band, in units of a tensor's largest value, in which an element lies over
the settings; golden numbers have no part in it. Writes ``tests/parity/rounding.json`` and the
table in ``tests/parity/README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import recording
from tests.parity.faults import FAULTS
from tests.parity.settings import ENVIRONMENTS, FAULT, FLOAT64, RECORD
from tests.tolerances import FACTOR, TABLE, UNITS

ROOT = Path(__file__).parents[2]
TESTS = ("tests/parity", "tests/ops/test_parity.py")
SETTINGS = {"plain": {}, "float64": {FLOAT64: "1"}, **ENVIRONMENTS}
# Those that differ most; enough for further files.
FEW = ("plain", "float64", "onednn-off", "all-avx2", "all-oldest")
FAULTY = {f"fault-{name}": {FAULT: name} for name in FAULTS}
# Left out in float64, which computes something else here than float32 on any processor: a centre
# on a line of the grid falls to another cell, an edge on a cell's takes another number of samples,
# and log(1 - p) does not lose the digits that it loses in every implementation in float32.
NOT_IN_FLOAT64 = (
    *("solov2.loss", "solov2.loss_gradient"),
    *("ops.roi_align", "ops.sigmoid_focal_loss"),
)

Runs = dict[str, dict[tuple[str, str], recording.Compared]]


def run(name: str, environment: dict[str, str], tests: list[str], folder: Path) -> None:
    """Record the tests in one setting; what fails otherwise is told and left out."""
    target = folder / name
    if target.exists():
        return
    print(f"{folder.name}: {name}", flush=True)
    partial = folder / f"{name}.partial"
    options = ["-q", "-n", os.environ.get("TEST_WORKERS", "2"), "--dist", "loadfile"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, *options, "-p", "no:cacheprovider"],
        env={**os.environ, "OMP_NUM_THREADS": "1", RECORD: str(partial), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    print(*told, done.stdout.splitlines()[-1], sep="\n", flush=True)
    partial.rename(target)


def recorded(folder: Path) -> list[str]:
    """The tests that compared something in the plain run."""
    return sorted({one.test for one in recording.load(folder / "plain")})


def load(folder: Path) -> Runs:
    return {
        path.name: {(one.test, one.place): one for one in recording.load(path)}
        for path in sorted(folder.iterdir())
        if path.name in SETTINGS.keys() | FAULTY.keys()
    }


def relative(difference: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference by the largest golden number; what has no partner (nan) is left out."""
    known = np.isfinite(difference) & np.isfinite(expected)
    if not known.any():
        return 0.0
    return float(difference[known].max() / max(np.abs(expected[known]).max(), 1e-30))


def bands(runs: Runs) -> Iterator[tuple[str, str, str, float, float]]:
    """Test, quantity, widest setting, width of the band and error of each comparison."""
    for key, plain in runs["plain"].items():
        several = {name: one[key] for name, one in runs.items() if name in SETTINGS and key in one}
        if plain.quantity in NOT_IN_FLOAT64:
            several.pop("float64", None)
        arrays = {n: one.actual for n, one in several.items()}
        arrays = {n: array for n, array in arrays.items() if array.shape == plain.actual.shape}
        stack = np.stack(list(arrays.values()))
        with np.errstate(invalid="ignore"):  # infinities that agree
            width = np.nan_to_num(stack.max(0) - stack.min(0), nan=np.nan)
            distance = {n: np.abs(array - np.median(stack, 0)) for n, array in arrays.items()}
        widest = max(distance, key=lambda n: relative(distance[n], plain.expected))
        error = max(relative(np.abs(a - plain.expected), plain.expected) for a in arrays.values())
        yield plain.test, plain.quantity, widest, relative(width, plain.expected), error


def fault_sizes(runs: Runs) -> Iterator[tuple[str, str, str, float]]:
    """Test, quantity, fault and how far the fault moves it, where it moves it at all."""
    for fault in FAULTY.keys() & runs.keys():
        for key, faulty in runs[fault].items():
            plain = runs["plain"].get(key)
            if plain is None or plain.actual.shape != faulty.actual.shape:
                continue
            size = relative(np.abs(faulty.actual - plain.actual), plain.expected)
            if size > 0:
                yield faulty.test, faulty.quantity, fault, size


def measure(folders: list[Path]) -> dict[str, dict[str, Any]]:
    """Make the table of what several sets of fixtures gave."""
    table: dict[str, dict[str, Any]] = {}
    sizes: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for folder in folders:
        runs = load(folder)
        for _, quantity, widest, width, error in bands(runs):
            row = table.setdefault(quantity, {"spread": 0.0, "widest": "", "error": 0.0})
            if width > row["spread"]:
                row.update(spread=width, widest=widest)
            row["error"] = max(row["error"], error)
        for test, quantity, fault, size in fault_sizes(runs):
            key = (folder.name, test, quantity, fault)
            sizes[key] = max(sizes[key], size)
    for (_, _, quantity, fault), size in sizes.items():
        row = table[quantity]
        if size < row.get("fault", np.inf):
            row.update(fault=size, smallest=fault.removeprefix("fault-"))
    return {
        quantity: {k: float(f"{v:.2g}") if isinstance(v, float) else v for k, v in row.items()}
        for quantity, row in sorted(table.items())
    }


def rows(table: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of the table in the README."""
    lines = [
        "| quantity | spread | widest in | allowed | worst seen | smallest fault |",
        "|---|---|---|---|---|---|",
    ]
    for quantity, row in table.items():
        allowed = FACTOR * max(row["spread"], UNITS)
        fault = f"{row['fault']:.1g} ({row['smallest']})" if "fault" in row else ""
        lines.append(
            f"| {quantity} | {row['spread']:.1e} | {row['widest']} | {allowed:.1e} "
            f"| {row['error']:.1e} | {fault} |"
        )
    return lines


def write(table: dict[str, dict[str, Any]]) -> None:
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    readme = TABLE.with_name("README.md")
    head, _ = readme.read_text().split("| quantity |")
    readme.write_text(head + "\n".join(rows(table)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / "rounding")
    parser.add_argument("--again", action="store_true", help="run nothing, read what is there")
    parser.add_argument("--fixtures", type=Path, nargs="*", help="more sets of golden files")
    args = parser.parse_args()
    folders = {args.work_dir / "golden": {}}
    for fixtures in args.fixtures or ():
        folders[args.work_dir / fixtures.name] = {"MMPANOPTIC_GOLDEN": str(fixtures.resolve())}
    for folder, environment in () if args.again else folders.items():
        run("plain", environment, list(TESTS), folder)
        chosen = {name: SETTINGS[name] for name in FEW} if environment else SETTINGS | FAULTY
        for name, setting in chosen.items():
            run(name, {**environment, **setting}, recorded(folder), folder)
    write(measure(list(folders)))


if __name__ == "__main__":
    main()
