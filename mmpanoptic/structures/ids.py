"""Segment ids and the colours that carry them in COCO-panoptic PNGs."""

from __future__ import annotations

import numpy as np

VOID_ID = 0
"""Segment id of pixels without a label."""

MAX_ID = (1 << 24) - 1
"""Largest segment id that fits into three 8-bit channels."""


def rgb2id(color: np.ndarray) -> np.ndarray:
    """Decode colours into segment ids, ``id = R + 256 G + 65536 B``.

    Args:
        color (np.ndarray): uint8, ``(..., 3)`` in RGB order.

    Returns:
        np.ndarray: int32 ids, shape ``(...)``.

    Raises:
        ValueError: If ``color`` is not uint8 with three channels.
    """
    if color.dtype != np.uint8 or color.shape[-1:] != (3,):
        raise ValueError(
            f"expected a uint8 array of shape (..., 3) in RGB order, got {color.dtype} "
            f"{color.shape}; decode the PNG unchanged and drop an alpha channel first"
        )
    if not color.size:
        return np.zeros(color.shape[:-1], np.int32)
    import cv2

    # One SIMD shuffle and a view take a tenth of the time of arithmetic on each pixel.
    packed = cv2.cvtColor(np.ascontiguousarray(color).reshape(-1, 1, 3), cv2.COLOR_RGB2RGBA)
    ids = packed.reshape(-1).view("<i4").reshape(color.shape[:-1])
    ids &= MAX_ID
    return ids.astype(np.int32, copy=False)


def id2rgb(ids: np.ndarray) -> np.ndarray:
    """Encode segment ids as colours; the inverse of :func:`rgb2id`.

    Args:
        ids (np.ndarray): Integer ids ``(...)``, each in ``[0, 2**24 - 1]``.

    Returns:
        np.ndarray: uint8 colours ``(..., 3)`` in RGB order.

    Raises:
        ValueError: If an id does not fit into 24 bits.
    """
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() > MAX_ID):
        raise ValueError(f"segment ids must lie in [0, {MAX_ID}], got [{ids.min()}, {ids.max()}]")
    if not ids.size:
        return np.zeros((*ids.shape, 3), np.uint8)
    try:
        import cv2
    except ModuleNotFoundError:  # beside an exported model there may be none
        packed = np.ascontiguousarray(ids, "<u4")[..., None].view(np.uint8)
        return np.ascontiguousarray(packed[..., :3])

    # The bytes of a little-endian id are R, G, B and 0.
    packed = np.ascontiguousarray(ids, "<u4").reshape(-1, 1).view(np.uint8).reshape(-1, 1, 4)
    return cv2.cvtColor(packed, cv2.COLOR_RGBA2RGB).reshape(*ids.shape, 3)
