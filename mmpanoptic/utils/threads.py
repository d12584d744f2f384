"""Threads of a run, and how they wait for each other: settled before PyTorch is loaded.

The threads of an operation meet at its end. By default the OpenMP of PyTorch's wheels (libgomp)
lets those that come first spin for milliseconds; if another process takes their processor
meanwhile, each of the many small operations of a step waits for a turn of the scheduler.
``docs/benchmarks.md`` has what the ways of waiting cost. None of them changes a result.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from .jobs import usable_cpus

NUMBER = "OMP_NUM_THREADS"
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how threads wait."""
SHORT_SPIN = 10_000
"""Turns of libgomp's waiting loop: as fast as the default on a quiet machine, where threads meet
within some ten microseconds; a thread that waits longer than that sleeps."""
_ROOM = 0.5
"""Of a processor that others may take on a quiet machine."""
_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_said: list[str] = []


class Ticks(NamedTuple):
    """Time of the usable processors since the start of the machine."""

    idle: int
    all: int


def processor_share() -> int:
    """Count the processors of this process: usable ones, bounded by a container, by its ranks.

    Returns:
        int: At least 1.
    """
    count = usable_cpus()
    for name, period in (
        ("cpu.max", None),
        ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    ):
        try:
            words = (_CGROUP / name).read_text(encoding="ascii").split()
            words += (_CGROUP / period).read_text(encoding="ascii").split() if period else []
            if words[0] not in ("max", "-1"):
                count = min(count, round(int(words[0]) / int(words[1])))
        except (OSError, ValueError, IndexError):
            continue
    return max(1, count // max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1)))


def read_ticks() -> Ticks | None:
    """Read how long the usable processors were idle; None where the system does not say."""
    try:
        lines = (_PROC / "stat").read_text(encoding="ascii").splitlines()
        usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        found = [
            [int(n) for n in words[1:9]] for words in map(str.split, lines) if words[0] in usable
        ]
    except (OSError, ValueError, AttributeError):
        return None
    idle, total = sum(n[3] + n[4] for n in found), sum(map(sum, found))
    return Ticks(idle, total) if found else None


def busy_processors(seconds: float) -> float | None:
    """Measure how many of the usable processors others keep busy while this process sleeps.

    Args:
        seconds (float): How long.

    Returns:
        float | None: Their number; None where the system does not say.
    """
    before = read_ticks()
    time.sleep(seconds)
    after = read_ticks()
    if before is None or after is None or after.all <= before.all:
        return None
    return usable_cpus() * (1 - (after.idle - before.idle) / (after.all - before.all))


def settle(seconds: float = 0.1) -> None:
    """Choose threads and their waiting for the run of this process, unless the user did.

    To be called before PyTorch is imported: its OpenMP reads the variables once. The number of
    threads depends on the machine alone, never on its load, so that a run can be repeated.

    Args:
        seconds (float): How long other work is watched.
    """
    if "torch" in sys.modules:
        return  # as in a program that calls the command: the variables were read before
    share, usable = processor_share(), usable_cpus()
    if os.environ.get(NUMBER):
        number = f"{NUMBER}={os.environ[NUMBER]} is given"
    else:
        number = f"{share} of {usable} processors are this process's"
        if share < usable:
            os.environ[NUMBER] = str(share)
    _said[:] = [number, _settle_waiting(os.environ.get(NUMBER), share, usable, seconds)]


def _settle_waiting(given: str | None, share: int, usable: int, seconds: float) -> str:
    chosen = [f"{name}={os.environ[name]}" for name in WAITING if os.environ.get(name)]
    if chosen:
        return f"they wait as given ({', '.join(chosen)})"
    threads = int(given) if given and given.isdigit() else share
    if threads == 1:
        return "one waits for nobody"
    busy = busy_processors(seconds)
    if busy is not None and busy + threads > usable + _ROOM:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        return (
            "they sleep while they wait (OMP_WAIT_POLICY=PASSIVE), since others keep "
            f"{busy:.1f} of {usable} processors busy"
        )
    os.environ["GOMP_SPINCOUNT"] = str(SHORT_SPIN)
    why = "other work is not measured here" if busy is None else f"others take {busy:.1f}"
    return f"they spin shortly, then sleep (GOMP_SPINCOUNT={SHORT_SPIN}): {why}"


def describe(threads: int) -> str:
    """Say in one line what was settled, and why.

    Args:
        threads (int): Of PyTorch.
    """
    reasons = _said or ["as PyTorch came", "their waiting, too"]
    return f"threads: {threads} ({reasons[0]}); {reasons[1]}"
