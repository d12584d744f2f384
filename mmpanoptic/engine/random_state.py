"""States of all random generators of a process, as plain values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture_random_state() -> dict[str, Any]:
    """Read the generators of Python, NumPy, torch's CPU and the current CUDA device.

    Returns:
        dict: Tensors and plain values, safe to store in a checkpoint.
    """
    drawn = np.random.get_state(legacy=False)
    state = {
        "python": random.getstate(),
        "numpy": {
            "keys": torch.from_numpy(drawn["state"]["key"].astype(np.int64)),
            "position": int(drawn["state"]["pos"]),
            "has_gauss": int(drawn["has_gauss"]),
            "gauss": float(drawn["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the generators to a captured state.

    Args:
        state (dict): From :func:`capture_random_state`. A CUDA state is left out on a machine
            without a GPU.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = state["numpy"]
    np.random.set_state(
        (
            "MT19937",
            numpy_state["keys"].cpu().numpy().astype(np.uint32),
            numpy_state["position"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        )
    )
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def isolated_random_state() -> Iterator[dict[str, Any]]:
    """Let a block draw random numbers without any trace outside.

    Yields:
        dict: The state before the block, which comes back after it.
    """
    state = capture_random_state()
    try:
        yield state
    finally:
        restore_random_state(state)
