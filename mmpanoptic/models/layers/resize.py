"""Bilinear resizing; pixel areas are aligned unless a head's weights want aligned corners."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def resize_bilinear(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Resize maps ``(N, C, h, w)`` to ``(N, C, *size)``; maps of that size are returned as is."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def upsample_to_image(
    x: Tensor, stride: int, size: tuple[int, int], align_corners: bool = False
) -> Tensor:
    """Enlarge head outputs to the resolution of the image.

    A map of ``ceil(H / stride)`` cells is larger than the image once enlarged; the surplus on the
    right and at the bottom is cut off.

    Args:
        x (Tensor): ``(N, C, h, w)``.
        stride (int): Pixels per cell.
        size (tuple[int, int]): ``(H, W)`` of the image.
        align_corners (bool): Align the centres of the corner pixels, not the corners of the areas.

    Returns:
        Tensor: ``(N, C, H, W)``.
    """
    height, width = x.shape[-2] * stride, x.shape[-1] * stride
    full = resize_bilinear(x, (height, width), align_corners)
    return full[..., : size[0], : size[1]]
