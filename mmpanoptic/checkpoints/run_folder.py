"""The folder of a run stands for a model: its own config, and its best or newest checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import CheckpointError

POINTER = "last_checkpoint"
"""File in a run's folder that names its newest checkpoint, as mmengine writes it."""
BEST_POINTER = "best_checkpoint"
"""File in a run's folder that names the best checkpoint of its last training, if it validates."""
CONFIG_POINTER = "last_config"
"""File in a run's folder that names the config of its last training."""


def _pointed(folder: Path, pointer: str) -> Path | None:
    """Follow a pointer; the folder may have been moved."""
    path = folder / pointer
    if not path.is_file():
        return None
    named = Path(path.read_text(encoding="utf-8").strip())
    beside = folder / named.name
    return beside if beside.is_file() else named


def run_checkpoint(folder: str | os.PathLike[str]) -> Path:
    """Choose the checkpoint of a run: the best of its last training, else the newest.

    Args:
        folder: The run's.

    Returns:
        Path: The file.

    Raises:
        CheckpointError: If no run has written checkpoints there.
    """
    folder = Path(folder)
    chosen = _pointed(folder, BEST_POINTER) or _pointed(folder, POINTER)
    if chosen is None:
        raise CheckpointError(
            f"{folder} is a folder without the file {POINTER}, so no run has written checkpoints "
            "there; give a checkpoint file"
        )
    return chosen


def run_config(folder: str | os.PathLike[str]) -> Path:
    """Find the config that a run wrote to its folder, with its overrides.

    Args:
        folder: The run's.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If there is none, or several of which none is known to be the run's.
    """
    folder = Path(folder)
    named = _pointed(folder, CONFIG_POINTER)
    if named is not None:
        return named
    found = sorted(folder.glob("*.py"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"{folder} is a folder without a config, so no run of mmpanoptic has trained there"
        )
    raise FileNotFoundError(
        f"{folder} holds several configs ({', '.join(path.name for path in found)}), and no file "
        f"{CONFIG_POINTER} says which one the run had; name it"
    )
