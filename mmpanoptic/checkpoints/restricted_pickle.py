"""Reading pickled weights (``.pkl`` of detectron2 and others) without running code from them."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .errors import CheckpointError, DamagedCheckpointError

_NUMERIC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_BROKEN = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError,
    RuntimeError, OverflowError, MemoryError, ImportError,
)  # fmt: skip


class _RefusedError(Exception):
    """A pickle names something that is not needed for weights."""


class _Function:
    """A function that a pickle may call, but not look into or change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("a change of a function")


class _Dtype:
    """Stands for ``numpy.dtype`` while a pickle is read; numbers and booleans only."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or _NUMERIC.fullmatch(code) is None:
            raise _RefusedError(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for ``numpy.ndarray`` while a pickle is read."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, is_fortran, data = state[-4:]
        self.value = _make_array(data, dtype, shape, "F" if is_fortran else "C")


def _make_array(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if isinstance(data, str):  # bytes of Python 2
        data = data.encode("latin1")
    flat = np.frombuffer(bytes(data), dtype.dtype)
    native = flat.astype(dtype.dtype.newbyteorder("="))
    return native.reshape(tuple(shape), order="F" if order == "F" else "C")


def _make_scalar(dtype: _Dtype, data: Any) -> Any:
    return _make_array(data, dtype, (), "C").item()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Python 3 writes bytes in old protocols as text in latin1."""
    if encoding.lower().replace("-", "") != "latin1":
        raise _RefusedError(f"a conversion with the codec {encoding!r}")
    return text.encode("latin1")


def _load_storage(data: bytes) -> torch.Tensor:
    """Return a storage as the flat tensor over all of it."""
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return torch.empty(0, dtype=storage.dtype).set_(storage)


def _make_tensor(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    # Unlike Tensor.set_, as_strided never enlarges the storage; it refuses what lies outside.
    return storage.as_strided(size, stride, offset)


def _make_parameter(data: torch.Tensor, *_: Any) -> torch.Tensor:
    return data


_NUMPY = {
    "multiarray._reconstruct": lambda *_: _Array(),
    "multiarray.scalar": _make_scalar,
    "numeric._frombuffer": lambda *args: _Array(_make_array(*args)),
}
_ALLOWED: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "__builtin__.bytes": lambda: b"",  # how Python 3 writes no bytes for Python 2
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    # numpy 1 and 2
    **{f"numpy.{core}.{k}": call for core in ("core", "_core") for k, call in _NUMPY.items()},
    "torch.storage._load_from_bytes": _load_storage,
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_parameter": _make_parameter,
}


class _WeightsUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, texts, arrays and tensors."""

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise _RefusedError(full_name)
        return _Function(_ALLOWED[full_name])


def load_weights_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of weights; nothing but data is ever built from it.

    NumPy arrays and torch tensors are rebuilt by functions of this module, whatever the pickle
    calls. Texts of Python 2 are read as latin1, as detectron2 does.

    Args:
        path: A local file.

    Returns:
        Any: Dicts, lists, tuples, plain values, NumPy arrays of numbers, torch tensors.

    Raises:
        CheckpointError: If the file is missing, or names anything else than the above.
        DamagedCheckpointError: If it is no pickle or cut off.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no file {path}; check the path")
    try:
        with open(path, "rb") as file:
            return _plain(_WeightsUnpickler(file, encoding="latin1").load())
    except _RefusedError as refused:
        raise CheckpointError(
            f"{path} holds more than weights ({refused}), and unpickling such objects can run "
            "code; it is not loaded. Load it with the code that wrote it, save its tensors with "
            "torch.save as a dict, and convert that file"
        ) from refused
    except RecursionError as error:
        raise DamagedCheckpointError(
            f"{path} is nested too deeply for a file of weights"
        ) from error
    except _BROKEN as error:
        raise DamagedCheckpointError(
            f"{path} cannot be read as a pickle of weights ({type(error).__name__}: {error}); it "
            "is damaged or of another format. Copy or download it again"
        ) from error


def _plain(node: Any) -> Any:
    """Replace the stand-ins and give every container its plain type."""
    if isinstance(node, _Array):
        if node.value is None:
            raise ValueError("an array without data")
        return node.value
    if isinstance(node, dict):
        # A pickle can hide an OrderedDict's methods behind attributes; the type's own are used.
        return {_plain(key): _plain(value) for key, value in dict.items(node)}
    if isinstance(node, list | tuple):
        return type(node)(_plain(value) for value in node)
    if isinstance(node, _Function | _Dtype):
        raise ValueError("a type in place of a value")
    return node
