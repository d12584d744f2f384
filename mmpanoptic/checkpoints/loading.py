"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmpanoptic.utils.files import atomic_write

from .errors import CheckpointError
from .integrity import write_sealed
from .reading import read_file
from .run_folder import run_checkpoint
from .shares import SHARES, put_together
from .weights import is_address, locate

PathLike = str | os.PathLike[str]


def save_checkpoint(checkpoint: dict[str, Any], path: PathLike) -> None:
    """Write a checkpoint atomically, with a checksum that :func:`load_checkpoint` verifies.

    Args:
        checkpoint (dict): Tensors and plain Python values; see
            :func:`mmpanoptic.engine.checkpoint_state.to_plain`.
        path: The file to write.

    Raises:
        WriteError: If the disk is full, broken or read-only; a file that was there stays.
    """
    with (
        atomic_write(path, _tensor_bytes(checkpoint)) as temporary,
        temporary.open("wb") as file,
    ):
        write_sealed(checkpoint, file)


def load_checkpoint(
    path: PathLike,
    map_location: str | torch.device | Callable[..., Any] = "cpu",
    trust: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint with an unpickler that builds tensors and plain Python values only.

    Args:
        path: A local file; a run's folder, which stands for its best checkpoint, or its newest
            one where none is best (:func:`.run_folder.run_checkpoint`); or an address of
            :func:`.weights.locate`, which is downloaded once.
        map_location: As in :func:`torch.load`.
        trust (bool): Rebuild also NumPy arrays and the bookkeeping classes that checkpoints of
            mmengine, mmdet and mmsegmentation hold (:func:`trusted_classes`). Code from the file
            never runs, with or without it.

    Returns:
        dict: The content.

    Raises:
        CheckpointError: If the file is missing, holds other classes, or holds no dict.
        DamagedCheckpointError: If the file is cut off or its checksums are wrong.
    """
    local = local_file(path)
    content = read_file(local, map_location, trust)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dict of weights; save "
            "model.state_dict() with torch.save and load that"
        )
    return put_together(content, local) if SHARES in content else content


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def local_file(path: PathLike) -> Path:
    """Expand a path, choose a checkpoint of a folder, download what an address names."""
    text = os.fspath(path)
    if is_address(text):
        return locate(text).path
    local = Path(text).expanduser()
    return run_checkpoint(local) if local.is_dir() else local
