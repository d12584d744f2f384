"""Mixed precision on every device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from mmpanoptic.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(AmpOptimWrapper):
    """Optimizer wrapper that runs the network under autocast, on CPUs and GPUs.

    Differences from the original (``mmengine.optim.AmpOptimWrapper``): works on CPUs; the loss
    is scaled for float16 only, since bfloat16 has the range of float32.

    Args:
        dtype (str | None): ``bfloat16`` or ``float16``. None takes bfloat16 where the device
            computes in it (CPUs, and GPUs from Ampere on), else float16.
        loss_scale (str | float | dict): ``"dynamic"``, a fixed factor, or arguments of
            ``torch.amp.GradScaler``.
        **kwargs: As in ``OptimWrapper`` (optimizer, clip_grad, accumulative_counts).

    Raises:
        ValueError: If ``dtype`` or ``loss_scale`` is none of these.
    """

    valid_dtypes = ("bfloat16", "float16")

    def __init__(
        self,
        dtype: str | None = None,
        loss_scale: str | float | dict[str, Any] = "dynamic",
        **kwargs: Any,
    ) -> None:
        # The original's constructor refuses machines without a GPU.
        OptimWrapper.__init__(self, **kwargs)
        self.device_type = torch.device(get_device()).type
        dtype = dtype or _native_dtype(self.device_type)
        if dtype not in self.valid_dtypes:
            raise ValueError(f"dtype must be one of {self.valid_dtypes} or None, got {dtype!r}")
        self.cast_dtype = getattr(torch, dtype)
        self._scale_update_param = None
        options: dict[str, Any] = {}
        if isinstance(loss_scale, dict):
            options = loss_scale
        elif isinstance(loss_scale, int | float):
            options = {"init_scale": float(loss_scale)}
            self._scale_update_param = float(loss_scale)
        elif loss_scale != "dynamic":
            raise ValueError(
                f"loss_scale must be 'dynamic', a number or a dict, got {loss_scale!r}"
            )
        self.loss_scaler = torch.amp.GradScaler(
            self.device_type, enabled=dtype == "float16", **options
        )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, without gradient exchange while accumulating.

        Args:
            model (nn.Module): The model.
        """
        autocast = torch.autocast(self.device_type, dtype=self.cast_dtype)
        with OptimWrapper.optim_context(self, model), autocast:
            yield


def _native_dtype(device_type: str) -> str:
    if device_type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "float16"
    return "bfloat16"
