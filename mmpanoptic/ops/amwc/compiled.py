"""Finds the compiled solver and says what to do where it is missing or older than its sources."""

from __future__ import annotations

import functools
import importlib
import warnings
import zlib
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent
REMEDY = (
    "Install a C++17 compiler (Debian: apt-get install g++), then run `make venv` in the clone, "
    "or `pip install pybind11` and `pip install --no-build-isolation --no-deps -e .`"
)


class SolverUnavailableError(ImportError):
    """The C++ solver was not built when mmpanoptic was installed."""


def source_checksum(folder: Path = SOURCES) -> str | None:
    """Checksum of the C++ sources; None where an installed package has none."""
    paths = sorted([*folder.glob("*.h"), *folder.glob("*.cpp")])
    if not paths:
        return None
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in paths)):08x}"


def is_available() -> bool:
    """Whether the solver was built."""
    try:
        load_solver()
    except SolverUnavailableError:
        return False
    return True


@functools.cache
def load_solver() -> Any:
    """Import the compiled module; warn once if its sources have changed since it was built.

    Raises:
        SolverUnavailableError: If it is not there or cannot be loaded.
    """
    try:
        solver = importlib.import_module("._solver", __package__)
    except ImportError as error:
        raise SolverUnavailableError(f"the AMWC solver is not built ({error}). {REMEDY}") from error
    if source_checksum() not in (None, solver.SOURCES):
        warnings.warn(
            "the compiled AMWC solver is older than its sources. "
            "Run `make venv`, or `pip install --no-build-isolation --no-deps -e .`",
            RuntimeWarning,
            stacklevel=2,
        )
    return solver
