"""What semantic logits do about the padding of a batch, in training and in testing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .resized_logits import ResizedLogits

PAD_HANDLING = ("crop", "squash")


def check_pad_handling(pad_handling: str) -> None:
    """Refuse unknown ways.

    Raises:
        ValueError: If it is not one of ``PAD_HANDLING``.
    """
    if pad_handling not in PAD_HANDLING:
        raise ValueError(
            f"pad_handling must be one of {', '.join(PAD_HANDLING)}, got {pad_handling!r}"
        )


def resize_padded_logits(
    logits: Tensor, meta: Mapping[str, Any], pad_handling: str = "crop", stride: int = 4
) -> ResizedLogits:
    """Bring the logits of ``PanopticFPNSemanticHead`` to the size of the original image.

    Args:
        logits (Tensor): Of one image, ``(C, h, w)``, padding included.
        meta (Mapping): ``img_shape`` (height and width without padding) and ``ori_shape`` (size of
            the result, ``img_shape`` if absent).
        pad_handling (str): "crop" cuts the padding off; "squash" resizes the map with its padding,
            as RAP does.
        stride (int): Pixels per cell.

    Returns:
        ResizedLogits: ``(C, H, W)``.

    Raises:
        ValueError: If ``pad_handling`` is unknown.
    """
    check_pad_handling(pad_handling)
    img_shape = tuple(meta["img_shape"][:2])
    out_shape = tuple(meta.get("ori_shape", img_shape)[:2])
    if pad_handling == "crop":
        return ResizedLogits(logits, stride, img_shape, out_shape, (True, False))
    padded = (logits.shape[-2] * stride, logits.shape[-1] * stride)
    return ResizedLogits(logits, stride, padded, out_shape, (True, True))
