"""Prove on a GPU what was only reasoned about without one: tests, memory, speed, in 12 minutes.

Every part is a process with a time limit of its own; what fails, hangs or crashes is told and the
next part follows. A second run with other figures is a second folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.utils import write_json
from mmpanoptic.utils.limited import Outcome, run_part

ROOT = Path(__file__).resolve().parents[2]
TOTAL = 720
"""Seconds of all parts together."""
LIMITS = {
    "versions": 20,
    "suite": 140,
    "systems": 80,
    "operators": 30,
    "training": 120,
    "resume": 45,
    "distributed": 45,
    "memory": 80,
    "latency": 100,
    "speed": 60,
}
"""Seconds of each part, in the order in which they run: what is wrong comes before what is slow."""
EXAMPLES = """
  %(prog)s                          # all parts, results in work_dirs/gpu_check
  %(prog)s --only versions suite    # some of them
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--only", nargs="+", choices=tuple(LIMITS), help="parts to run (default: all)")
    parser.take("work_dir", default="work_dirs/gpu_check", help="folder of the results")
    return parser


def command_of(part: str, folder: Path) -> list[str]:
    """Return the command line of a part, which writes ``FOLDER/PART.json``."""
    return [sys.executable, "-m", "tests.gpu.parts", part, str(folder)]


def run_parts(
    limits: Mapping[str, float],
    folder: Path,
    total: float = TOTAL,
    command: Callable[[str, Path], list[str]] = command_of,
) -> Iterator[Outcome]:
    """Run parts one after the other; what one leaves of its time, the later ones may not exceed.

    Args:
        limits (Mapping[str, float]): Seconds of each part.
        folder (Path): Receives logs and figures.
        total (float): Seconds of all together.
        command (Callable): Makes the command line of a part.

    Yields:
        Outcome: Of each part, when it is over.
    """
    start = time.monotonic()
    for part, limit in limits.items():
        left = total - (time.monotonic() - start)
        if left < 1:
            yield Outcome(part, "skipped", 0.0, "no time was left", [])
        else:
            yield run_part(part, command(part, folder), folder, min(limit, left), ROOT)


def to_markdown(machine: str, outcomes: Sequence[Outcome]) -> str:
    """Lay the outcomes and their figures out as tables."""
    lines = [f"# GPU check: {machine}", "", "| part | status | seconds |", "|---|---|---|"]
    lines += [f"| {one.part} | {one.status} | {one.seconds:.0f} |" for one in outcomes]
    for one in outcomes:
        lines += ["", f"## {one.part}", ""]
        if one.figures:
            names = list(dict.fromkeys(name for row in one.figures for name in row))
            lines += [_row(names), _row(["---"] * len(names))]
            lines += [_row([_cell(row.get(name, "")) for name in names]) for row in one.figures]
        if one.words:
            lines += ["", "```text", one.words.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def find_gpus() -> list[str]:
    """Name the CUDA devices."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def run(args: argparse.Namespace) -> Iterator[str]:
    """Run the parts, write results.json and results.md.

    Raises:
        Failure: If a part did not pass.
    """
    folder = ROOT / args.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    devices = find_gpus()
    if not devices:
        write_json(folder / "results.json", {"status": "skipped", "reason": "no CUDA device"})
        (folder / "results.md").write_text("# GPU check: skipped\n\nThere is no CUDA device.\n")
        yield "skipped: there is no CUDA device on this machine"
        return
    outcomes: list[Outcome] = []
    limits = {part: LIMITS[part] for part in args.only or LIMITS}
    for outcome in run_parts({part: limits[part] for part in LIMITS if part in limits}, folder):
        outcomes.append(outcome)
        yield f"{outcome.part:12} {outcome.status:8} {outcome.seconds:6.1f} s"
        content = {"status": "done", "devices": devices, "parts": [o._asdict() for o in outcomes]}
        write_json(folder / "results.json", content, indent=1)
        (folder / "results.md").write_text(to_markdown(", ".join(devices), outcomes), "utf-8")
    yield f"results: {folder / 'results.md'}"
    bad = [outcome.part for outcome in outcomes if outcome.status != "passed"]
    if bad:
        raise cli.Failure(f"did not pass: {', '.join(bad)}")


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
