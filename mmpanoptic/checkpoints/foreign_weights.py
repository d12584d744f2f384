"""Checkpoints of other code bases: reading them, comparing their input normalisation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError, CheckpointMismatchError
from .reading import read_file
from .weights import is_address, locate

_ENVELOPES = ("model", "state_dict", "blobs")
_MEAN, _STD = "pixel_mean", "pixel_std"


def read_foreign_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint of another code base; code from it never runs.

    Args:
        path: A local file in one of the formats of :func:`.reading.read_file`, or an address of
            :func:`.weights.remote_file`.

    Returns:
        dict[str, Tensor]: Tensors on the CPU by name, see :func:`unwrap`.

    Raises:
        CheckpointError: If the file is missing, damaged, unsafe, or holds no tensors by name.
    """
    text = os.fspath(path)
    local = locate(text).path if is_address(text) else Path(text).expanduser()
    return unwrap(read_file(local, trust=True), path)


def unwrap(content: Any, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Take the tensors out of a checkpoint of another code base.

    Args:
        content (Any): The tensors or arrays by name; they may lie under ``model``, ``state_dict``
            or ``blobs`` (Detectron), and all their names may begin with ``module.``.
        path: Where it comes from, for messages.

    Returns:
        dict[str, Tensor]: Tensors by name.

    Raises:
        CheckpointError: If it holds something else.
    """
    for key in _ENVELOPES:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds no tensors by name; expected a state dict, or one under "
            f"{' or '.join(_ENVELOPES)}"
        )
    wrong = [str(n) for n, v in content.items() if not isinstance(v, np.ndarray | Tensor)]
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} entries are no tensors ({', '.join(wrong[:5])}); expected a "
            f"state dict, or one under {' or '.join(_ENVELOPES)}"
        )
    tensors = {str(name): torch.as_tensor(value) for name, value in content.items()}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def take_normalisation(
    state: dict[str, Tensor], mean: Sequence[float], std: Sequence[float]
) -> list[str]:
    """Remove the input normalisation that older checkpoints hold, after comparing it.

    Args:
        state (dict[str, Tensor]): Tensors by published name; changed in place.
        mean (Sequence[float]): The config's, RGB, 0..255.
        std (Sequence[float]): The config's.

    Returns:
        list[str]: The names that were removed.

    Raises:
        CheckpointMismatchError: If the checkpoint was trained with other values.
    """
    taken = []
    for name, ours in ((_MEAN, mean), (_STD, std)):
        if name not in state:
            continue
        theirs = state.pop(name).flatten().tolist()
        taken.append(name)
        if not np.allclose(theirs, list(ours), rtol=0, atol=1e-2):
            raise CheckpointMismatchError(
                f"the checkpoint was trained with {name} {theirs}, the config has {list(ours)}; "
                "choose the config of the same backbone, or change data_preprocessor there"
            )
    return taken
