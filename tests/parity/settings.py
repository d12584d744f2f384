"""Settings under which one machine rounds like another, and a mode that does not round.

    python -m tests.parity.settings NAME    # the environment of a setting, for `env`; none for none
    python -m tests.parity.settings --pick HEX    # the name of one of them, by a commit's hash

Every one must be set before the process starts: the libraries read it once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

ONEDNN = "MMPANOPTIC_TEST_ONEDNN"
FLOAT64 = "MMPANOPTIC_TEST_FLOAT64"
FAULT = "MMPANOPTIC_TEST_FAULT"
RECORD = "MMPANOPTIC_RECORD_ROUNDING"
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
OLDEST = {
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "two-threads": {"OMP_NUM_THREADS": "2"},
    "onednn-off": {ONEDNN: "0"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
    "mkl-avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "all-avx2": AVX2,
    "all-oldest": OLDEST,
}


class Float64(TorchDispatchMode):
    """Compute in float64 whatever would be computed in float32.

    Parameters and tensors of arrays are float64 from the beginning. A float32 tensor that is left
    is widened where it is read; what is written into it is rounded.
    """

    def __enter__(self) -> Float64:
        self.saved = torch.from_numpy, torch.as_tensor, torch.tensor, torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        torch.from_numpy, torch.as_tensor, torch.tensor = map(_widened, self.saved[:3])
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        torch.from_numpy, torch.as_tensor, torch.tensor = self.saved[:3]
        torch.set_default_dtype(self.saved[3])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") == torch.float32:
            kwargs["dtype"] = torch.float64
        if _is_view(func):  # moves numbers, does not round, and must keep the memory
            return func(*args, **kwargs)
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

        def widen(x: Any) -> Any:
            if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
                return x
            pairs.append((x, x.to(torch.float64)))
            return pairs[-1][1]

        result = func(*tree_map(widen, args), **tree_map(widen, kwargs))
        if _writes(func):
            for narrow, wide in pairs:
                narrow.copy_(wide)
        originals = {id(wide): narrow for narrow, wide in pairs}

        def leave(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            if id(x) in originals:  # the result of writing into a tensor is that tensor
                return originals[id(x)]
            return x.to(torch.float64) if x.dtype == torch.float32 else x

        return tree_map(leave, result)


def _widened(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def wide(*args: Any, **kwargs: Any) -> torch.Tensor:
        made = make(*args, **kwargs)
        if made.dtype != torch.float32:
            return made
        return made.detach().double().requires_grad_(made.requires_grad)

    return wide


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _writes(func: Any) -> bool:
    if "batch_norm" in func._schema.name:  # updates statistics without declaring it
        return True
    return any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)


@contextmanager
def chosen_mode() -> Iterator[None]:
    """What the environment asks of PyTorch beyond the variables that its libraries read."""
    if os.environ.get(FLOAT64) == "1":
        with Float64():
            yield
    elif os.environ.get(ONEDNN) == "0":
        with torch.backends.mkldnn.flags(enabled=False):
            yield
    else:
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(ENVIRONMENTS), nargs="?")
    parser.add_argument("--pick", type=lambda text: int(text[:8], 16), metavar="HEX")
    args = parser.parse_args()
    if args.pick is not None:
        print(sorted(ENVIRONMENTS)[args.pick % len(ENVIRONMENTS)])
    elif args.name:
        print(*(f"{key}={value}" for key, value in ENVIRONMENTS[args.name].items()))


if __name__ == "__main__":
    main()
