"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmpanoptic.utils.files import atomic_write

from .integrity import CheckpointError, DamagedCheckpointError, verify_checkpoint, write_sealed

_HASHED_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_READ_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    OSError,
    RuntimeError,
)
_HISTORY_METHODS = ("min", "max", "mean", "current")


POINTER = "last_checkpoint"
"""File in a run's folder that names its newest checkpoint, as mmengine writes it."""


def save_checkpoint(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
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
    path: str | os.PathLike[str],
    map_location: str | torch.device | Callable[..., Any] = "cpu",
    trust: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint with an unpickler that builds tensors and plain Python values only.

    Args:
        path: A local file; a run's folder, which stands for the checkpoint that its file
            ``last_checkpoint`` names; or an ``https://`` URL whose file name ends in
            ``-<sha256>.pth`` (at least 8 digits), which is kept in torch's download cache.
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
    path = _local_file(path)
    verify_checkpoint(path)
    try:
        with torch.serialization.safe_globals(trusted_classes() if trust else []):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except _READ_ERRORS as error:
        refused = _refused_classes(path, error, trust)
        if refused:
            raise CheckpointError(_explain_refusal(path, refused, trust)) from error
        # The first line: torch goes on with advice to switch its protection off.
        reason = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0]
        raise DamagedCheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}); it is damaged or no file of "
            "torch.save. Take another checkpoint or copy it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dict of weights; save "
            "model.state_dict() with torch.save and load that"
        )
    return content


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def trusted_classes() -> list[Any]:
    """List what ``trust=True`` may rebuild: data holders without side effects.

    Returns:
        list: Classes and ``(callable, name)`` pairs for ``torch.serialization.safe_globals``.
    """
    import argparse
    import codecs
    import collections

    import numpy as np
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer
    from numpy._core import multiarray

    pairs: list[Any] = [
        (function, f"{module}.multiarray.{name}")
        for module in ("numpy.core", "numpy._core")  # numpy 1 and 2
        for name, function in (
            ("_reconstruct", multiarray._reconstruct),
            ("scalar", multiarray.scalar),
        )
    ]
    pairs.append((_history_method, "builtins.getattr"))
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"}
    holders = (ConfigDict, HistoryBuffer, argparse.Namespace, collections.deque)
    return [*pairs, np.ndarray, np.dtype, *dtypes, codecs.encode, *holders]


def _history_method(owner: Any, name: str) -> Any:
    """Stand in for ``getattr``, with which pickles name the methods of mmengine's HistoryBuffer."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r}) is not allowed")
    return getattr(owner, name)


def _local_file(path: str | os.PathLike[str]) -> Path:
    """Expand a path, choose a folder's newest checkpoint, fetch a URL into torch's cache."""
    text = os.fspath(path)
    scheme = urlparse(text).scheme
    if len(scheme) < 2:  # none, or the drive letter of a Windows path
        local = Path(text).expanduser()
        return _newest_in(local) if local.is_dir() else local
    name = os.path.basename(urlparse(text).path)
    digest = _HASHED_NAME.search(name)
    if scheme != "https" or digest is None:
        raise CheckpointError(
            f"{text} is not loaded: only https:// URLs whose file name ends in -<sha256>.pth (at "
            "least 8 digits) can be checked. Download the file yourself and give its path"
        )
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(text, str(target), digest[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"cannot download {text}: {error}") from error
    return target


def _newest_in(folder: Path) -> Path:
    """Follow a run's pointer to its newest checkpoint; the folder may have been moved."""
    pointer = folder / POINTER
    if not pointer.is_file():
        raise CheckpointError(
            f"{folder} is a folder without the file {POINTER}, so no run has written checkpoints "
            "there; give a checkpoint file"
        )
    named = Path(pointer.read_text(encoding="utf-8").strip())
    beside = folder / named.name
    return beside if beside.is_file() else named


def _refused_classes(path: Path, error: Exception, trust: bool) -> list[str]:
    """Name the classes of a file that may not be rebuilt; empty if the failure is another."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        with torch.serialization.safe_globals(trusted_classes() if trust else []):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError):  # a file of torch before 1.6 or a TorchScript archive
        names = []
    return sorted(names) or re.findall(r"GLOBAL (\S+)", str(error))


def _explain_refusal(path: Path, refused: list[str], trust: bool) -> str:
    what = f"{path} holds more than weights ({', '.join(map(str, refused))})"
    if not trust:
        return (
            f"{what}, and unpickling such objects can run code. If the file comes from mmengine, "
            "mmdet or mmsegmentation and you trust its source, pass --trust (trust=True), which "
            "admits their bookkeeping classes; or have its author save the state_dict alone"
        )
    return (
        f"{what}, which --trust does not admit either. Load it with the code that wrote it, save "
        "its state_dict with torch.save, and use that file"
    )


def install_safe_loading() -> None:
    """Route ``init_cfg=dict(type="Pretrained", ...)`` through our reader of checkpoints.

    Local files, ``https://`` addresses and the model names of ``torchvision://`` and
    ``open-mmlab://`` are read with ``weights_only=True`` and checked; see
    :func:`mmpanoptic.checkpoints.loading.load_checkpoint`.

    Differences from the original: mmengine 0.10.7 reads downloads with an unpickler that runs
    code from the file.
    """
    # The readers of model names look this function up in their module when they are called.
    mmengine_checkpoint.load_from_http = _read
    CheckpointLoader.register_scheme(("http://", "https://"), _read, force=True)
    CheckpointLoader.register_scheme("", _read, force=True)


def _read(filename: str, map_location: Any = None, *_: Any, **__: Any) -> dict[str, Any]:
    return load_checkpoint(filename, map_location or "cpu")
