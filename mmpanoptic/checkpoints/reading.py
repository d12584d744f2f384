"""Reading files of weights in all their formats without running code from them."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError, DamagedCheckpointError
from .integrity import verify_checkpoint
from .restricted_pickle import load_weights_pickle

_LEGACY_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"
"""The number that files of torch before 1.6 begin with, as a pickle writes it."""
_FRAME = "Unsupported operand 149"
"""What torch's safe unpickler says of protocol 4, whose pickles begin with a frame."""
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


def read_file(
    path: Path,
    map_location: str | torch.device | Callable[..., Any] = "cpu",
    trust: bool = False,
) -> Any:
    """Read a local file of weights; its first bytes, not its name, tell the format.

    Args:
        path (Path): A file of ``torch.save`` (new or, before 1.6, legacy), a pickle of arrays or
            tensors, or a file of safetensors.
        map_location: As in :func:`torch.load`; pickles come to the CPU.
        trust (bool): As in :func:`load_checkpoint`.

    Returns:
        Any: The content.

    Raises:
        CheckpointError: If the file is missing or holds other classes.
        DamagedCheckpointError: If the file is cut off or its checksums are wrong.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; check the path")
    kind = format_of(path)
    if kind == "pickle":
        return load_weights_pickle(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind != "legacy":  # those hold no checksums
        verify_checkpoint(path)
    try:
        # An open file: given a name, torch goes by its ending.
        with (
            torch.serialization.safe_globals(trusted_classes() if trust else []),
            open(path, "rb") as file,
        ):
            return torch.load(file, map_location=map_location, weights_only=True)
    except _READ_ERRORS as error:
        refused = _refused_classes(path, error, trust)
        if refused:
            raise CheckpointError(_explain_refusal(path, refused, trust)) from error
        if _FRAME in str(error):
            raise CheckpointError(
                f"{path} is written in pickle protocol 4 or later, which torch cannot read "
                "without running code from the file; have it saved again by torch.save without "
                "pickle_protocol"
            ) from error
        # The first line: torch goes on with advice to switch its protection off.
        reason = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0]
        raise DamagedCheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}); it is damaged or no file of "
            "torch.save. Take another checkpoint or copy it again"
        ) from error


def format_of(path: Path) -> str:
    """Tell the format of a file of weights.

    Args:
        path (Path): A local file.

    Returns:
        str: "zip" (of ``torch.save``), "legacy" (of ``torch.save`` before 1.6), "pickle",
        "safetensors", or "unknown".
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if head.startswith(b"PK"):
        return "zip"
    if _LEGACY_MAGIC in head[:40]:
        return "legacy"
    if head.startswith(b"\x80"):
        return "pickle"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length < os.path.getsize(path):
        return "safetensors"
    return "pickle" if path.suffix == ".pkl" else "unknown"  # protocols 0 and 1 have no mark


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedCheckpointError(
            f"{path} cannot be read as a file of safetensors ({error}); it is damaged. Copy or "
            "download it again"
        ) from error


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
