"""Numbers of the host as tensors of a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def as_tensor_on(like: Tensor, values: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Turn numbers into a tensor on another tensor's device; the host does not wait for a GPU.

    Args:
        like (Tensor): Gives the device and, without ``dtype``, the type.
        values (Any): Numbers, or nested lists of them.
        dtype (torch.dtype | None): Of the result.

    Returns:
        Tensor: The numbers. ``torch.tensor(values, device=...)`` would let the host wait until the
        GPU has done everything before.
    """
    made = torch.tensor(values, dtype=dtype or like.dtype)
    return made.to(like.device, non_blocking=True)
