"""Checkpoints in parts: beside ``NAME.pth`` each process's share of the tensors.

Each file is a sealed checkpoint like any other, without pickled classes (torch's own format for
distributed checkpoints has a pickle as its index). ``NAME.pth`` is written last and names the
shares by an id that no other writing has, so that it never stands beside those of another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError, DamagedCheckpointError
from .integrity import verify_checkpoint
from .reading import read_file

SHARES = "shares"
"""Key of a checkpoint in parts: ``id`` and ``count`` of its shares."""
_PLACE, _DIM = "share of tensor", "dimension"


def placeholder(index: int, dim: int) -> dict[str, int]:
    """Return what stands in ``NAME.pth`` in place of a tensor.

    Args:
        index (int): Its place in each share.
        dim (int): Dimension along which it is cut.
    """
    return {_PLACE: index, _DIM: dim}


def share_path(path: Path, mark: str, rank: int, count: int) -> Path:
    """Return the file of a process's share.

    Args:
        path (Path): The checkpoint ``NAME.pth``.
        mark (str): Id of this writing.
        rank (int): Of the process.
        count (int): Number of processes.
    """
    return path.with_name(f"{path.name}.share-{mark}-{rank}-of-{count}")


def put_together(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Replace the placeholders of a checkpoint by whole tensors, read one share after the other.

    Args:
        content (dict): Of ``NAME.pth``.
        path (Path): That file; its shares lie beside it.

    Returns:
        dict: As a checkpoint in one file.

    Raises:
        CheckpointError: If a share is missing.
        DamagedCheckpointError: If a share is damaged or of another checkpoint.
    """
    parts = []
    for file in _files(content, path):
        share = read_file(file)
        if not isinstance(share, dict) or share.get("id") != content[SHARES]["id"]:
            raise DamagedCheckpointError(f"{file} is no share of {path}")
        parts.append(share["tensors"])

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping) and value.keys() == {_PLACE, _DIM}:
            return torch.cat([tensors[value[_PLACE]] for tensors in parts], value[_DIM])
        if isinstance(value, dict):
            for key, inner in value.items():  # in place: an OrderedDict keeps its metadata
                value[key] = fill(inner)
        if isinstance(value, list | tuple):
            return type(value)(map(fill, value))
        return value

    return fill({name: value for name, value in content.items() if name != SHARES})


def verify_shares(path: Path) -> None:
    """Check that the shares of a checkpoint, if it has any, are there and whole.

    Raises:
        CheckpointError: If one is missing or damaged.
    """
    if not _beside(path):
        return
    content = read_file(path)
    if SHARES in content:
        for file in _files(content, path):
            verify_checkpoint(file)


def remove_checkpoint(path: Path, keep: str | None = None) -> None:
    """Remove a checkpoint with its shares.

    Args:
        path (Path): ``NAME.pth``; it need not be there.
        keep (str | None): Id of shares that stay, and the checkpoint with them.
    """
    if keep is None:
        path.unlink(missing_ok=True)
    for file in _beside(path):
        if keep is None or not file.name.startswith(f"{path.name}.share-{keep}-"):
            file.unlink(missing_ok=True)


def _beside(path: Path) -> list[Path]:
    start = f"{path.name}.share-"
    return [file for file in path.parent.iterdir() if file.name.startswith(start)]


def _files(content: Mapping[str, Any], path: Path) -> list[Path]:
    mark, count = content[SHARES]["id"], content[SHARES]["count"]
    files = [share_path(path, mark, rank, count) for rank in range(count)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{path} is in {count} parts, of which {len(missing)} are missing beside it "
            f"({missing[0]}); keep the files of a checkpoint together"
        )
    return files
