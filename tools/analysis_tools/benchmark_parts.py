#!/usr/bin/env python
"""Time parts of mmpanoptic against plain re-statements of the published procedures.

A part is a module ``parts/<name>.py`` with

- ``DESCRIPTION`` and ``BASELINE``: what is timed, and against what;
- ``make_inputs(size, **case)``: a dict; ``size`` is "default" or "small";
- ``baseline(inputs)`` and ``ours(inputs)``: the two ways to the same result;
- ``check(expected, got)``: raises AssertionError where the results disagree;
- optionally ``CASES``: keyword arguments of ``make_inputs`` by the name of the case;
- optionally ``note(expected, got)``: a line on both results, printed below the table;
- optionally ``before(inputs)``: called in front of each run and not timed.

Baseline and ours run in turn in one process. Seconds are medians of wall time. Peak memory is the
growth of the resident set during one more run of each (VmHWM of Linux; a dash elsewhere).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mmpanoptic import cli

ROOT = Path(__file__).resolve().parents[2]
PARTS_FOLDER = Path(__file__).resolve().parent / "parts"
NEEDED = ("DESCRIPTION", "BASELINE", "make_inputs", "baseline", "ours", "check")
EXAMPLES = """
  %(prog)s
  %(prog)s pdl_grouping roi_align --repeats 9 --json parts.json
"""


class PartError(cli.Failure):
    """A part does not exist, is incomplete, or its results disagree."""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    names = ", ".join(find_parts(PARTS_FOLDER))
    parser = cli.Parser(__doc__, f"{EXAMPLES}\nparts: {names or 'none'}")
    parser.add("parts", nargs="*", metavar="PART", help="default: all")
    parser.take("threads", default=1, help="default: 1")
    parser.add("--repeats", type=cli.at_least(1), default=5, metavar="N", help="default: 5")
    parser.add(
        "--inputs", old=["--size"], choices=("default", "small"), default="default", help="size"
    )
    parser.take("json")
    parser.add("--parts-folder", type=Path, default=PARTS_FOLDER, help=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Run the parts, print a table, write JSON.

    Raises:
        Failure: If results disagree.
    """
    sys.path.insert(0, str(ROOT))  # parts use the re-statements in tests/reference
    parts = select_parts(find_parts(args.parts_folder), args.parts)
    modules = {name: load_part(name, path) for name, path in parts.items()}
    cases = [
        (f"{name}[{case}]" if case else name, module, options)
        for name, module in modules.items()
        for case, options in getattr(module, "CASES", {"": {}}).items()
    ]
    figures, failures = [], []
    for label, module, options in cli.track(cases, "parts"):
        try:
            figures.append(measure(label, module, options, args.inputs, args.repeats))
        except PartError as error:
            failures.append(str(error))
    machine = describe_machine()
    yield format_table(figures)
    text = ", ".join(f"{key} {value}" for key, value in machine.items())
    yield f"{args.threads} thread(s), size {args.inputs}, median of {args.repeats}; {text}"
    settings = {"threads": args.threads, "size": args.inputs, "repeats": args.repeats}
    content = {"machine": machine, **settings, "memory": "growth of VmHWM", "parts": figures}
    cli.save_json(args, content)
    if failures:
        raise cli.Failure("\n".join(failures))


def find_parts(folder: Path) -> dict[str, Path]:
    """List the parts of a folder by name; names with a leading underscore are helpers."""
    return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


def select_parts(parts: Mapping[str, Path], names: Sequence[str]) -> dict[str, Path]:
    """Choose parts by name, all if no name is given.

    Raises:
        PartError: If a name is unknown.
    """
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise PartError(
            f"unknown part {', '.join(unknown)}; there are: {', '.join(parts) or 'none'}"
        )
    return {name: parts[name] for name in (names or parts)}


def load_part(name: str, path: Path) -> ModuleType:
    """Import a part.

    Raises:
        PartError: If it cannot be imported or lacks something.
    """
    spec = importlib.util.spec_from_file_location(f"benchmark_part_{name}", path)
    if spec is None or spec.loader is None:
        raise PartError(f"part {name}: {path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise PartError(f"part {name}: {error} (parts run in a clone of the repository)") from error
    missing = [attribute for attribute in NEEDED if not hasattr(module, attribute)]
    if missing:
        raise PartError(f"part {name} ({path}) lacks {', '.join(missing)}")
    return module


def measure(
    label: str, module: ModuleType, case: Mapping[str, Any], size: str, repeats: int
) -> dict[str, Any]:
    """Time one part.

    Returns:
        dict: Names, seconds of every run, medians, ratios and peak memory.

    Raises:
        PartError: If the results disagree.
    """
    inputs = module.make_inputs(size=size, **case)
    runs: dict[str, Callable[[Any], Any]] = {"baseline": module.baseline, "ours": module.ours}
    results = {name: run(inputs) for name, run in runs.items()}  # the warm-up
    try:
        agree = module.check(results["baseline"], results["ours"])
    except AssertionError as error:
        raise PartError(f"part {label}: the results disagree: {error}") from error
    if agree is False:
        raise PartError(f"part {label}: the results disagree")
    note = None
    if hasattr(module, "note"):
        note = module.note(results["baseline"], results["ours"])
    del results
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            getattr(module, "before", _nothing)(inputs)
            gc.collect()
            begin, begin_cpu = time.perf_counter(), processor_time()
            run(inputs)
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(processor_time() - begin_cpu)
    seconds = {name: statistics.median(values) for name, values in wall.items()}
    cpu_seconds = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "part": label,
        "description": module.DESCRIPTION,
        "baseline": module.BASELINE,
        "seconds": seconds,
        "ratio": seconds["baseline"] / seconds["ours"],
        "cpu_seconds": cpu_seconds,
        "cpu_ratio": cpu_seconds["baseline"] / max(cpu_seconds["ours"], 1e-9),
        "peak_extra_mib": {name: peak_memory(run, inputs) for name, run in runs.items()},
        "all_seconds": wall,
        "note": note,
    }


def _nothing(inputs: Mapping[str, Any]) -> None:
    pass


def processor_time() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    if sys.platform == "win32":
        return time.process_time()
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_memory(run: Callable[[Any], Any], inputs: Any) -> float | None:
    """Measure the growth of the resident set during a run in MiB; None where Linux is needed."""
    try:
        gc.collect()
        # Freed memory that the allocator keeps would hide what the run takes from it.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        before = _status("VmRSS")
        run(inputs)
        return max(0.0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def describe_machine() -> dict[str, str]:
    """Name the processor and the versions that the figures depend on."""
    import cv2
    import numpy as np
    import torch

    from mmpanoptic.utils.jobs import usable_cpus

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = named[0] if named else model
    return {
        "cpu": f"{model} ({usable_cpus()} usable)",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "opencv": cv2.__version__,
    }


def format_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Draw the figures, and below them what each part is compared with."""
    from mmpanoptic.evaluation.tables import render_table

    header = ["part", "baseline s", "ours s", "ratio"]
    header += ["baseline CPU s", "ours CPU s", "CPU ratio", "baseline MiB", "ours MiB"]
    rows = []
    for part in figures:
        row = [part["part"]]
        for times, ratio in (("seconds", "ratio"), ("cpu_seconds", "cpu_ratio")):
            row += [f"{part[times][name]:.4g}" for name in ("baseline", "ours")]
            row.append(f"{part[ratio]:.2f}")
        rows.append([*row, *(part["peak_extra_mib"][name] for name in ("baseline", "ours"))])
    notes = [
        f"{part['part']}: {part['description']} Baseline: {part['baseline']}" for part in figures
    ]
    notes += [f"{part['part']}: {part['note']}" for part in figures if part["note"]]
    return "\n".join([render_table("Parts", header, rows), *notes])


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
