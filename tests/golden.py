"""Where parity tests find their fixtures."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_ROOT = Path(__file__).parent / "data" / "golden"


def golden_dir(system: str) -> Path:
    """Folder of one system.

    ``MMPANOPTIC_GOLDEN`` names a folder with one folder per system, or that of a single system;
    without it the fixtures of the repository are taken.
    """
    override = os.environ.get("MMPANOPTIC_GOLDEN")
    if not override:
        return DEFAULT_ROOT / system
    root = Path(override)
    return root if root.name == system else root / system


def golden_files(system: str, pattern: str) -> list[Path]:
    """Sorted files (or folders) of a system.

    Of the repository's own fixtures an empty find is an error, not a skipped test. A folder of
    somebody else may hold only some kinds of files: tests without files are shown as skipped.

    Raises:
        FileNotFoundError: If nothing matches among the repository's fixtures; a parity test
            without fixtures proves nothing.
    """
    found = sorted(golden_dir(system).glob(pattern))
    if not found and not os.environ.get("MMPANOPTIC_GOLDEN"):
        raise FileNotFoundError(f"no golden file matches {golden_dir(system) / pattern}")
    return found
