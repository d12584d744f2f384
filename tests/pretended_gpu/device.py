"""A pretended GPU: numbers of the CPU, the rules of a CUDA device.

Inside :class:`PretendedGPU`, ``device="cuda"`` gives tensors that say ``cuda:0`` and hold their
values in a CPU tensor. Every operator is looked at on its way: tensors of two devices must not
meet, and whatever lets the host wait for a GPU is counted with the line that asked for it. It
tells nothing about speed or about the numbers of CUDA's kernels.

Import this module after :func:`tests.pretended_gpu.guard.load`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmengine.device.utils
import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

PACKAGE = Path(__file__).parents[2] / "mmpanoptic"

WAITING = {
    "_local_scalar_dense": "item",
    "equal": "equal",
    "is_nonzero": "item",
    "nonzero": "nonzero",
    "argwhere": "nonzero",
    "masked_select": "masked_select",
    "bincount": "bincount",
    "_unique": "unique",
    "_unique2": "unique",
    "unique_dim": "unique",
    "unique_consecutive": "unique",
    "unique_dim_consecutive": "unique",
}
"""Operators whose result's size or value the host has to know."""

INDEXING = ("index", "_unsafe_index", "index_put_", "index_put", "_index_put_impl_")

VIEWS = {
    "detach",
    "view",
    "alias",
    "_unsafe_view",
    "slice",
    "select",
    "unsqueeze",
    "squeeze",
    "permute",
    "transpose",
    "t",
    "expand",
    "split",
    "split_with_sizes",
    "unbind",
    "as_strided",
    "narrow",
    "diagonal",
    "lift_fresh",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_reshape_alias",
    "chunk",
    "unfold",
    "view_as",
}
"""Operators without a kernel of their own."""

SCALARS_MAY_MEET = {
    "where",
    "masked_fill",
    "masked_fill_",
    "fill_",
    "lerp",
    "lerp_",
    "addcmul",
    "addcmul_",
    "addcdiv",
    "addcdiv_",
    "clamp",
    "clamp_",
}
"""Operators that take a CPU number (a tensor without dimensions) although not tagged pointwise."""


NOTHING_TO_DO = (
    "_lazy_init",
    "init",
    "set_device",
    "reset_peak_memory_stats",
    "empty_cache",
    "manual_seed",
    "manual_seed_all",
    "set_rng_state",
    "set_rng_state_all",
    "ipc_collect",
)
"""Functions of ``torch.cuda`` that the pretended device leaves alone."""


class MixedDevicesError(RuntimeError):
    """Tensors of the CPU and of the GPU met in one operator."""


class Record:
    """What the device saw: kernels, waits of the host by kind and line, bytes copied."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.kernels = 0
        self.kernels_beside_copies = 0
        self.to_host = self.to_device = 0
        self.waits: Counter[tuple[str, str]] = Counter()
        self.on_their_way: list[_Copy] = []

    def wait(self, kind: str) -> None:
        """Count one wait of the host, with the line of the package that asked for it."""
        self.waits[kind, _line()] += 1

    def send(self, target: torch.Tensor, values: torch.Tensor) -> None:
        """Begin a copy to the host: until someone waits for it, the target holds nonsense."""
        with no_dispatch(), torch.no_grad():
            target.fill_(math.nan if values.is_floating_point() else 1)
        self.on_their_way.append(_Copy(Stream.current, target, values, self.kernels))
        self.waits[ON_ITS_WAY, _line()] += 1

    def synchronize(self, stream: Stream | None = None) -> None:
        """Count one wait, after which all copies (of a stream) are there."""
        there = [copy for copy in self.on_their_way if stream in (None, copy.stream)]
        self.on_their_way = [copy for copy in self.on_their_way if copy not in there]
        for copy in there:
            with no_dispatch(), torch.no_grad():
                copy.target.copy_(copy.values)
        if there:
            self.kernels_beside_copies += self.kernels - there[-1].begun
        if not self.on_their_way:
            for key in [key for key in self.waits if key[0] == ON_ITS_WAY]:
                del self.waits[key]
        self.wait("synchronize")


class Stream:
    """A queue of the device; copies to the host are what its order is kept for."""

    current: Stream

    def __init__(self, device: Any = None, **_: Any) -> None:
        self.device = torch.device(device or "cuda")

    def wait_stream(self, other: Stream) -> None:
        """Nothing to do: what is computed is there at once."""

    def synchronize(self) -> None:
        RECORD.synchronize(self)


Stream.current = Stream()


@dataclass(eq=False)
class _Copy:
    """A copy on its way: its stream, where to and what, and the kernels before it."""

    stream: Stream
    target: torch.Tensor
    values: torch.Tensor
    begun: int


ON_ITS_WAY = "copy to host that nobody waits for"
RECORD = Record()


def _line() -> str:
    """Name the innermost line of the package on the stack, else the innermost outside torch."""
    frame = sys._getframe(1)
    other = "?"
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE.parent)}:{frame.f_lineno}"
        if other == "?" and "torch" not in path.parts and path.parent != Path(__file__).parent:
            other = f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return other


class GPUTensor(torch.Tensor):
    """A tensor that says ``cuda:0``; ``inner`` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> GPUTensor:
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device("cuda", 0),
        )
        outer.inner = inner
        return outer

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> list[Any]:
        RECORD.wait("tolist")
        RECORD.to_host += self.inner.nbytes
        return self.inner.tolist()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise MixedDevicesError(f"a tensor of the GPU cannot become an array, at {_line()}")

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        if hasattr(self, "_is_param"):
            copy._is_param = True
        return copy

    def __repr__(self, **_: Any) -> str:
        return f"GPUTensor({tuple(self.shape)}, {self.dtype})"


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one operator: check the devices, count, compute on the CPU, wrap the results."""
    leaves, structure = tree_flatten((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, GPUTensor)]
    made_here = _is_gpu(kwargs.get("device"))
    if not ours and not made_here:
        if kwargs.get("pin_memory"):  # there is no device that would need it
            kwargs = {**kwargs, "pin_memory": False}
        return func(*args, **kwargs)
    name = func._schema.name.removeprefix("aten::")
    if name == "_to_copy":
        return _convert(func, args[0], dict(kwargs))
    if name in ("copy_", "copy"):
        return _copy(func, *args, **kwargs)
    if name in ("is_pinned", "_pin_memory", "record_stream"):
        return {"is_pinned": False, "_pin_memory": args[0], "record_stream": None}[name]
    if ours:
        _check(func, name, args, leaves)
    _count(name, args, kwargs)
    inner_args, inner_kwargs = tree_map(_inner, tree_unflatten(leaves, structure))
    if made_here:
        inner_kwargs["device"] = torch.device("cpu")
    if name in ("_softmax", "_log_softmax") and inner_args[2]:
        # From float16 to float32 in one kernel, which CPUs do not have.
        inner_args = [inner_args[0].float(), inner_args[1], False]
    result = inner_args[0].item() if name == "_local_scalar_dense" else None
    if result is None:
        result = func(*inner_args, **inner_kwargs)
    if torch.Tag.inplace_view in func.tags:
        with no_dispatch():  # the size that the outer tensor tells changes along
            func(*args, **kwargs)
    if "device" in kwargs and kwargs["device"] is not None and not made_here:
        return result
    owner = {id(tensor.inner): tensor for tensor in ours}
    return tree_map(lambda leaf: _outer(leaf, owner), result)


def _inner(leaf: Any) -> Any:
    if isinstance(leaf, GPUTensor):
        return leaf.inner
    if isinstance(leaf, torch.device) and leaf.type == "cuda":
        return torch.device("cpu")
    return leaf


def _outer(leaf: Any, owner: dict[int, GPUTensor]) -> Any:
    if not isinstance(leaf, torch.Tensor) or isinstance(leaf, GPUTensor):
        return leaf
    return owner.get(id(leaf)) if id(leaf) in owner else GPUTensor(leaf)


def _convert(func: Any, source: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    """Convert dtype, layout or device."""
    device = kwargs.pop("device", None)
    non_blocking = bool(kwargs.pop("non_blocking", False))
    kwargs.pop("pin_memory", None)
    from_gpu = isinstance(source, GPUTensor)
    to_gpu = from_gpu if device is None else _is_gpu(device)
    inner = _inner(source)
    if from_gpu != to_gpu:
        _count_copy(inner, to_gpu, non_blocking)
    elif to_gpu:
        RECORD.kernels += 1
    result = func(inner, **kwargs)
    result = result.clone() if result is inner else result
    if from_gpu and not to_gpu and non_blocking:
        RECORD.send(result, result.clone())
    return GPUTensor(result) if to_gpu else result


def _copy(func: Any, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> Any:
    """Copy into a tensor, perhaps from one device to the other."""
    to_gpu = isinstance(target, GPUTensor)
    from_gpu = isinstance(source, GPUTensor)
    if to_gpu != from_gpu:
        _count_copy(_inner(source), to_gpu, non_blocking)
    else:
        RECORD.kernels += 1
    result = func(_inner(target), _inner(source))
    if from_gpu and not to_gpu and non_blocking:
        RECORD.send(result, result.clone())
    if func._schema.name == "aten::copy_":
        return target
    return GPUTensor(result) if to_gpu else result


def _count_copy(source: torch.Tensor, to_gpu: bool, non_blocking: bool) -> None:
    if to_gpu:
        RECORD.to_device += source.nbytes
    else:
        RECORD.to_host += source.nbytes
    if not non_blocking:
        RECORD.wait("copy to device" if to_gpu else "copy to host")


def _check(func: Any, name: str, args: tuple[Any, ...], leaves: list[Any]) -> None:
    """Refuse what a GPU refuses: operands of two devices."""
    others = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, GPUTensor)]
    if not others:
        return
    if name in INDEXING:
        if not isinstance(args[0], GPUTensor):
            _refuse(name, "a tensor of the CPU is indexed by or given tensors of the GPU", leaves)
        indices = [x for x in tree_flatten(args[1])[0] if isinstance(x, torch.Tensor)]
        if any(not isinstance(x, GPUTensor) for x in indices):
            RECORD.wait("copy to device")  # allowed: the index travels
        if any(x.dim() for x in others if all(x is not index for index in indices)):
            _refuse(name, "the values are on the CPU", leaves)
        return
    first = func._schema.arguments[0]
    writes = first.alias_info is not None and first.alias_info.is_write
    if writes and not isinstance(args[0], GPUTensor):
        _refuse(name, "writes to a tensor of the CPU", leaves)
    pointwise = torch.Tag.pointwise in func.tags or name in SCALARS_MAY_MEET
    if not pointwise or any(x.dim() for x in others):
        _refuse(name, "tensors of two devices", leaves)


def _refuse(name: str, what: str, leaves: list[Any]) -> None:
    shapes = ", ".join(
        f"{x.device.type}{tuple(x.shape)}" for x in leaves if isinstance(x, torch.Tensor)
    )
    raise MixedDevicesError(f"{name}: {what} ({shapes}), at {_line()}")


def _count(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Count the kernel, and the wait if the operator needs one."""
    if name not in VIEWS:
        RECORD.kernels += 1
    if name in WAITING:
        RECORD.wait(WAITING[name])
    elif name == "repeat_interleave" and kwargs.get("output_size") is None:
        RECORD.wait("repeat_interleave")
    elif name in INDEXING:
        masks = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
        filled = name != "index" and len(args[1]) == 1 and args[2].numel() == 1
        if masks and not filled:  # one number at a mask becomes masked_fill
            RECORD.wait("boolean index")


class PretendedGPU(TorchDispatchMode):
    """While active, ``"cuda"`` is the pretended device."""

    def __enter__(self) -> PretendedGPU:
        _answer_for_cuda()
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_composite(func):  # decomposed here, since autograd, which would do it, is above
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return run(func, args, kwargs or {})


@functools.cache
def _is_composite(func: Any) -> bool:
    key = "CompositeImplicitAutograd"
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)


@functools.cache
def _answer_for_cuda() -> None:
    """Let ``torch.cuda`` answer as if there were one device."""
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    state = torch.zeros(16, dtype=torch.uint8)
    answers: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "_exchange_device": 0,
        "_maybe_exchange_device": 0,
        "get_device_name": "pretended",
        "get_device_capability": (9, 0),
        "is_bf16_supported": True,
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "get_rng_state": state,
        "get_rng_state_all": [state],
        "_is_in_bad_fork": False,
    }
    answers |= dict.fromkeys(NOTHING_TO_DO)
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, _answer=answer, **__: _answer)
    mmengine.device.utils.DEVICE = "cuda"  # asked once, when it is imported
    torch.cuda.synchronize = lambda *_: RECORD.synchronize()
    torch.Stream = Stream
    torch.accelerator.current_stream = lambda *_: Stream.current
    torch.accelerator.set_stream = lambda stream: setattr(Stream, "current", stream)
    torch.Tensor.cuda = lambda self, *_, **__: self.to("cuda")
    torch.Tensor.pin_memory = lambda self, *_: self
