"""Pillow's bilinear resizing with the same bits in every version, of images and of windows."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

_Span = tuple[int, int]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image as the published pipelines do: columns first, then rows.

    Pillow rounds to 8 bits between the two passes. Recent versions (13.0 is one) sometimes begin
    with the rows, which moves a quarter of the pixels by one grey level; here each pass is a call
    of its own.

    Args:
        image (np.ndarray): uint8 ``(H, W, 3)``.
        size (tuple[int, int]): Height and width of the result.

    Returns:
        np.ndarray: uint8 ``(height, width, 3)``.
    """
    return resize_window(image, size, (0, 0, *size))


def resize_window(
    image: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]
) -> np.ndarray:
    """Compute a window of the resized image.

    Pillow takes the part of the source to resize in single precision. Parts that begin and end at
    whole source pixels are exact: the window grows to the next rows and columns where the grids
    of both images meet, and is cut out of the result.

    Args:
        image (np.ndarray): uint8 ``(H, W, 3)``.
        size (tuple[int, int]): Height and width of the whole resized image.
        window (tuple[int, int, int, int]): Top, left, height and width in the resized image.

    Returns:
        np.ndarray: uint8 ``(height, width, 3)``; the bits of resizing all, then cutting.
    """
    top, left, height, width = window
    rows, source_rows = _aligned(image.shape[0], size[0], top, top + height)
    columns, source_columns = _aligned(image.shape[1], size[1], left, left + width)
    # Rows that the filter reaches beyond the part; it reaches one source or target pixel.
    margin = math.ceil(max(1.0, image.shape[0] / size[0])) + 1
    first = max(source_rows[0] - margin, 0)
    part = Image.fromarray(image[first : source_rows[1] + margin])
    part = part.resize(
        (columns[1] - columns[0], part.height),
        Image.Resampling.BILINEAR,
        box=(source_columns[0], 0, source_columns[1], part.height),
    )
    part = part.resize(
        (part.width, rows[1] - rows[0]),
        Image.Resampling.BILINEAR,
        box=(0, source_rows[0] - first, part.width, source_rows[1] - first),
    )
    top, left = top - rows[0], left - columns[0]
    return np.asarray(part.crop((left, top, left + width, top + height)))


def _aligned(length: int, new_length: int, start: int, stop: int) -> tuple[_Span, _Span]:
    """Grow an interval of the new grid to points that coincide with points of the old one."""
    step = new_length // math.gcd(length, new_length)
    start, stop = start // step * step, -(-stop // step) * step
    return (start, stop), (start * length // new_length, stop * length // new_length)
