"""Start of commands that need no network."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

DESCRIPTION = "a process that answers mmpanoptic COMMAND --help."
BASELINE = "a process that imports torch and mmengine, as every command once did."
CASES = {
    "eval": {"words": ["eval", "panoptic"]},
    "check": {"words": ["check"]},
    "train": {"words": ["train"]},
}


def make_inputs(size: str = "default", words: list[str] | None = None) -> dict[str, Any]:
    """Name the command; there is one size."""
    return {"words": words or []}


def baseline(inputs: dict[str, Any]) -> str:
    """Import and say nothing."""
    return _run("-c", "import mmengine, torch; print('usage:')")


def ours(inputs: dict[str, Any]) -> str:
    """Ask for help."""
    return _run("-m", "mmpanoptic", *inputs["words"], "--help")


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    return done.stdout[: len("usage:")] or done.stderr


def check(expected: str, got: str) -> None:
    """Both must have worked."""
    if not expected == got == "usage:":
        raise AssertionError(f"{expected!r}, {got!r}")
