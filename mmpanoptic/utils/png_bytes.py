"""PNG files: reading, what they hold, whether they are whole, and their pixels."""

from __future__ import annotations

import os
from typing import NamedTuple

import cv2
import numpy as np

from .archives import read_bytes
from .format_errors import format_error

GREY, RGB, PALETTE, RGBA = 0, 2, 3, 6
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_SIZE = 33  # signature and the IHDR chunk, which the standard puts first
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey + alpha", 6: "RGBA"}


class PngHeader(NamedTuple):
    """Pixel format of a PNG.

    Attributes:
        depth (int): Bits per channel.
        color_type (int): Number in the standard, such as :data:`GREY`.
    """

    depth: int
    color_type: int

    def __str__(self) -> str:
        color = _COLOR_TYPES.get(self.color_type, f"colour type {self.color_type}")
        return f"{self.depth}-bit {color}"


def read_header(data: bytes, path: str | os.PathLike[str]) -> PngHeader:
    """Read the pixel format.

    Args:
        data: Content of the file.
        path: Named in error messages.

    Raises:
        PanopticFormatError: Of kind ``corrupt_png`` if it is no PNG.
    """
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < _HEADER_SIZE:
        raise format_error("corrupt_png", f"not a PNG file ({len(data)} bytes)", path)
    return PngHeader(data[24], data[25])


def check_whole(data: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse a PNG that is cut off; OpenCV fills its rest with zeros and only prints a warning.

    Args:
        data: Content of the file.
        path: Named in error messages.

    Raises:
        PanopticFormatError: Of kind ``corrupt_png``.
    """
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        position += 12 + size
        if kind == b"IEND" and position <= len(data):
            return
    raise format_error("corrupt_png", f"the PNG is cut off after {len(data)} bytes", path)


def read_png(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a PNG, which may lie in a zip archive.

    Args:
        path: The file.

    Returns:
        bytes: Its content.

    Raises:
        PanopticFormatError: Of kind ``missing_file``, or ``corrupt_png`` if it cannot be read.
    """
    try:
        return read_bytes(path)
    except FileNotFoundError as error:
        detail = f"cannot read the PNG: {error.strerror}"
        raise format_error("missing_file", detail, path) from error
    except OSError as error:
        detail = f"cannot read the PNG: {error.strerror}"
        raise format_error("corrupt_png", detail, path) from error


def decode_pixels(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """Decode a PNG without converting anything.

    Args:
        data: Content of the file.
        path: Named in error messages.

    Returns:
        np.ndarray: uint8 or uint16 ``(H, W)`` or ``(H, W, C)``, BGR.

    Raises:
        PanopticFormatError: Of kind ``corrupt_png``.
    """
    check_whole(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # such as more pixels than OpenCV accepts
        detail = f"cannot decode the PNG: {error.err}"
        raise format_error("corrupt_png", detail, path) from error
    if image is None:
        raise format_error("corrupt_png", "the PNG's pixel data are damaged", path)
    return image
