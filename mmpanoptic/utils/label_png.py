"""PNGs of numbers: label maps, instance maps and masks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from .format_errors import format_error
from .jobs import write_file
from .png_bytes import GREY, PALETTE, PngHeader, check_whole, decode_pixels, read_header, read_png


def read_label_png(path: str | os.PathLike[str], max_depth: int = 16) -> np.ndarray:
    """Read a map of numbers.

    Args:
        path: Grey PNG of 8 or 16 bits, or a palette PNG, whose indices are the numbers.
        max_depth: 8 refuses files of 16 bits.

    Returns:
        np.ndarray: uint8 or uint16 ``(H, W)``.

    Raises:
        PanopticFormatError: Of kind ``missing_file``, ``corrupt_png`` or ``bad_label_png``.
    """
    data = read_png(path)
    header = read_header(data, path)
    # OpenCV stretches 1, 2 and 4 bits to the range of 8, which makes other numbers of them.
    grey = header.color_type == GREY and 8 <= header.depth <= max_depth
    if not grey and header.color_type != PALETTE:
        allowed = "8" if max_depth == 8 else "8 or 16"
        detail = f"expected a grey PNG of {allowed} bits or a palette PNG, got {header}"
        raise format_error("bad_label_png", detail, path)
    return _decode(data, header, path)


def read_mask_png(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a mask: every pixel that is not zero belongs to it.

    Args:
        path: PNG of any kind; of a palette PNG the index counts, an alpha channel does not.

    Returns:
        np.ndarray: bool ``(H, W)``.

    Raises:
        PanopticFormatError: Of kind ``missing_file`` or ``corrupt_png``.
    """
    data = read_png(path)
    image = _decode(data, read_header(data, path), path)
    return image != 0 if image.ndim == 2 else (image[..., :3] != 0).any(axis=2)


def write_label_png(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write a map of numbers as a grey PNG, whole or not at all, without waiting for the disk.

    Args:
        path: The file; missing folders are made.
        labels (np.ndarray): uint8 or uint16 ``(H, W)``.

    Raises:
        ValueError: If OpenCV cannot encode the map.
    """
    import cv2

    done, data = cv2.imencode(".png", labels)
    if not done:
        raise ValueError(f"{path}: OpenCV cannot encode a map of shape {labels.shape} as PNG")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data.tobytes())


def _decode(data: bytes, header: PngHeader, path: str | os.PathLike[str]) -> np.ndarray:
    """Decode, taking the indices of a palette PNG instead of its colours."""
    if header.color_type != PALETTE:
        return decode_pixels(data, path)
    from PIL import Image

    check_whole(data, path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image, np.uint8)
    except (OSError, SyntaxError) as error:
        raise format_error("corrupt_png", f"the PNG is damaged: {error}", path) from error
