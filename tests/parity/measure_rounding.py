"""Measure how far rounding moves what the parity tests compare; write the table of tolerances.

    python -m tests.parity.measure_rounding            # runs the tests, hours on a busy machine
    python -m tests.parity.measure_rounding --again    # only reads what is there already

The tests run in float64 and in every setting of ``tests/parity/settings.py``, on the golden files
and on those that ``tests/parity/make_fixtures.py`` makes, and once with each fault. The spread of
a quantity is the greatest distance of a setting from float64, in units of a tensor's scale; golden
numbers have no part in it. Writes ``tests/parity/rounding.json`` and the table in
``tests/parity/README.md``.
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
from tests.tolerances import FACTOR, LEAST, TABLE, relative_errors

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

Table = dict[str, dict[str, Any]]
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


def sizes(difference: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """A difference in both norms, as ``relative_errors``; what has no partner (nan) is left out."""
    known = np.isfinite(difference) & np.isfinite(expected)
    return relative_errors(expected[known] + difference[known], expected[known])


def spreads(runs: Runs) -> Iterator[tuple[str, str, dict[str, float], dict[str, float]]]:
    """Quantity, setting, distance from float64 and error of each comparison in each setting."""
    for key, plain in runs["plain"].items():
        exact = None if plain.quantity in NOT_IN_FLOAT64 else runs["float64"].get(key)
        exact = plain if exact is None or exact.actual.shape != plain.actual.shape else exact
        for name in SETTINGS.keys() & runs.keys():
            one = runs[name].get(key)
            if one is None or one.actual.shape != exact.actual.shape:
                continue
            if name == "float64" and plain.quantity in NOT_IN_FLOAT64:
                continue
            with np.errstate(invalid="ignore"):  # infinities that agree
                distance = sizes(one.actual - exact.actual, plain.expected)
                error = sizes(one.actual - plain.expected, plain.expected)
            yield plain.quantity, name, distance, error


def fault_sizes(runs: Runs) -> Iterator[tuple[str, str, str, dict[str, float]]]:
    """Test, quantity, fault and how far the fault moves it, where it moves it at all."""
    for fault in FAULTY.keys() & runs.keys():
        for key, faulty in runs[fault].items():
            plain = runs["plain"].get(key)
            if plain is None or plain.actual.shape != faulty.actual.shape:
                continue
            with np.errstate(invalid="ignore"):
                size = sizes(faulty.actual - plain.actual, plain.expected)
            if size["largest"] > 0:
                yield faulty.test, faulty.quantity, fault, size


def measure(folders: list[Path]) -> Table:
    """Make the table of what several sets of fixtures gave."""
    table: Table = {}
    errors: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    faults: dict[tuple[str, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for folder in folders:
        runs = load(folder)
        for quantity, setting, distance, error in spreads(runs):
            row = table.setdefault(quantity, {"largest": 0.0, "rms": 0.0, "widest": ""})
            if distance["largest"] > row["largest"]:
                row["widest"] = setting
            for norm, value in distance.items():
                row[norm] = max(row[norm], float(f"{value:.3g}"))
                errors[quantity][norm] = max(errors[quantity][norm], error[norm])
        for test, quantity, fault, size in fault_sizes(runs):
            for norm, value in size.items():
                seen = faults[folder.name, test, quantity, fault]
                seen[norm] = max(seen[norm], value)
    for quantity, seen in errors.items():
        table[quantity]["seen"] = excess(table[quantity], seen)
    for (*_, quantity, fault), size in faults.items():
        row, found = table[quantity], excess(table[quantity], size)
        if found < row.get("fault", np.inf):
            row.update(fault=found, smallest=fault.removeprefix("fault-"))
    return dict(sorted(table.items()))


def excess(row: dict[str, Any], errors: dict[str, float]) -> float:
    """The greater of the errors in units of what is allowed."""
    ratios = (e / (FACTOR * max(row[norm], LEAST[norm])) for norm, e in errors.items())
    return float(f"{max(ratios):.2g}")


def rows(table: Table) -> list[str]:
    """Lines of the table in the README."""
    lines = [
        "| quantity | spread | rms | widest in | allowed | worst seen | smallest fault |",
        "|---|---|---|---|---|---|---|",
    ]
    for quantity, row in table.items():
        allowed = FACTOR * max(row["largest"], LEAST["largest"])
        fault = f"{row['fault']:g} ({row['smallest']})" if "fault" in row else ""
        lines.append(
            f"| {quantity} | {row['largest']:.1e} | {row['rms']:.1e} | {row['widest']} "
            f"| {allowed:.1e} | {row['seen']:.2f} | {fault} |"
        )
    return lines


def write(table: Table) -> None:
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
