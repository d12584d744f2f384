"""In-place activated batch norm (InPlaceABN) expressed by plain batch norm and LeakyReLU."""

from __future__ import annotations

from typing import Any

from torch import Tensor

ABN_EPS = 1e-5
"""Epsilon of InPlaceABN outside the backbone."""
BACKBONE_ABN_EPS = 1e-3
"""Epsilon of InPlaceABN in EfficientNet backbones."""


def abn_act() -> dict[str, Any]:
    """Config of the activation that is part of InPlaceABN."""
    return {"type": "LeakyReLU", "negative_slope": 0.01}


def abn_norm(eps: float = ABN_EPS) -> dict[str, Any]:
    """Config of the norm layer that computes what InPlaceABN computes once its scale is folded.

    Args:
        eps (float): Epsilon of the layer.

    Returns:
        dict: For mmcv's ``build_norm_layer``.
    """
    return {"type": "BN", "eps": eps, "momentum": 0.1}


def fold_abn_scale(weight: Tensor, eps: float) -> Tensor:
    """Turn the weight of InPlaceABN into that of a plain batch norm.

    InPlaceABN (arXiv:1712.02616) needs to invert itself and therefore scales by ``|weight| +
    eps``, in training and evaluation alike; its own epsilon of the variance is the same number.
    The activation follows the scale and bias. With the folded weight, batch norm followed by
    LeakyReLU(0.01) gives the same outputs, running statistics and gradients; the gradient of the
    weight has the other sign where the original weight was negative.

    Args:
        weight (Tensor): ``(C,)``, weight of InPlaceABN.
        eps (float): Its epsilon.

    Returns:
        Tensor: ``(C,)``, weight of the batch norm.
    """
    return weight.abs() + eps
