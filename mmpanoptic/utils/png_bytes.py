"""PNG files: reading, what they hold, whether they are whole, and their pixels."""

from __future__ import annotations

import os
import zlib
from typing import NamedTuple

import numpy as np

from mmpanoptic.structures import undo_png_filters

from .archives import read_bytes
from .format_errors import format_error

GREY, RGB, PALETTE, RGBA = 0, 2, 3, 6
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_SIZE = 33  # signature and the IHDR chunk, which the standard puts first
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, 4: 2, RGBA: 4}
_LARGEST_RATIO = 1033  # of deflate
_MODES = {(8, GREY): "mono", (16, GREY): "mono", (8, RGB): "rgb", (8, RGBA): "rgba"}
"""What kornia_rs decodes, three to six times as fast as OpenCV, by depth and colour type."""
_PLAIN = {b"IHDR", b"IDAT", b"IEND"}
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey + alpha", 6: "RGBA"}


class PngHeader(NamedTuple):
    """Pixel format and size of a PNG.

    Attributes:
        depth (int): Bits per channel.
        color_type (int): Number in the standard, such as :data:`GREY`.
        width (int): Pixels.
        height (int): Pixels.
        interlaced (bool): Whether the pixels come in Adam7's passes.
    """

    depth: int
    color_type: int
    width: int
    height: int
    interlaced: bool

    def __str__(self) -> str:
        color = _COLOR_TYPES.get(self.color_type, f"colour type {self.color_type}")
        return f"{self.depth}-bit {color}"


def read_header(data: bytes, path: str | os.PathLike[str]) -> PngHeader:
    """Read the pixel format and size.

    Args:
        data: Content of the file.
        path: Named in error messages.

    Raises:
        PanopticFormatError: Of kind ``corrupt_png`` if it is no PNG.
    """
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < _HEADER_SIZE:
        raise format_error("corrupt_png", f"not a PNG file ({len(data)} bytes)", path)
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    return PngHeader(data[24], data[25], width, height, bool(data[28]))


def check_whole(data: bytes, path: str | os.PathLike[str]) -> set[bytes]:
    """Refuse a PNG that is cut off; OpenCV fills its rest with zeros and only prints a warning.

    Args:
        data: Content of the file.
        path: Named in error messages.

    Returns:
        set[bytes]: The kinds of its chunks.

    Raises:
        PanopticFormatError: Of kind ``corrupt_png``.
    """
    position, kinds = len(_SIGNATURE), set()
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        kinds.add(kind)
        position += 12 + size
        if kind == b"IEND" and position <= len(data):
            return kinds
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
        np.ndarray: uint8 or uint16 ``(H, W)`` or ``(H, W, C)``, RGB or RGBA.

    Raises:
        PanopticFormatError: Of kind ``corrupt_png``.
    """
    header = read_header(data, path)
    kinds = check_whole(data, path)
    _check_size(data, header, path)
    mode = _MODES.get((header.depth, header.color_type))
    if mode == "rgb" and not header.interlaced and kinds == _PLAIN:
        colors = _decode_plain(data, (header.height, header.width))
        if colors is not None:
            return colors
    if mode is None or header.interlaced or b"tRNS" in kinds:
        return _decode_by_opencv(data, path)
    import kornia_rs.io as kornia

    decode = kornia.decode_image_png_u8 if header.depth == 8 else kornia.decode_image_png_u16
    try:
        image = decode(data, (header.height, header.width), mode)
    except Exception as error:  # the library raises no narrower class
        detail = f"the PNG's pixel data are damaged ({error})"
        raise format_error("corrupt_png", detail, path) from error
    return image[..., 0] if mode == "mono" and image.ndim == 3 else image


def _decode_plain(data: bytes, shape: tuple[int, int]) -> np.ndarray | None:
    """Decode a whole RGB PNG of IHDR, IDATs and IEND, twice as fast as the general decoder.

    Returns:
        np.ndarray | None: uint8 ``(H, W, 3)``; None where the general decoder has to look.
    """
    import deflate

    size = shape[0] * (3 * shape[1] + 1)
    if 0 in shape:
        return None
    try:
        rows = deflate.zlib_decompress(b"".join(_sound_bodies(data)), size)
    except deflate.DeflateError:  # nothing is no stream either
        return None
    return undo_png_filters(rows, shape) if len(rows) == size else None


def _sound_bodies(data: bytes) -> list[bytes]:
    """List the bodies of the IDATs; none of them if the sum of a chunk is wrong."""
    bodies, position = [], len(_SIGNATURE)
    while (kind := data[position + 4 : position + 8]) != b"IEND":
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return []
        if kind == b"IDAT":
            bodies.append(data[position + 8 : end])
        position = end + 4
    return bodies


def _check_size(data: bytes, header: PngHeader, path: str | os.PathLike[str]) -> None:
    """Refuse a header that promises more pixels than the file can hold, before making room."""
    most = _LARGEST_RATIO * 8 * len(data) // (header.depth * _CHANNELS.get(header.color_type, 1))
    if header.height * header.width > most:
        detail = (
            f"the header promises {header.width}x{header.height} pixels, more than {len(data)} "
            "bytes can hold"
        )
        raise format_error("corrupt_png", detail, path)


def _decode_by_opencv(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """Decode what the fast decoder does not know: palettes, few bits, interlaced, 16-bit colour."""
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # such as more pixels than OpenCV accepts
        detail = f"cannot decode the PNG: {error.err}"
        raise format_error("corrupt_png", detail, path) from error
    if image is None:
        raise format_error("corrupt_png", "the PNG's pixel data are damaged", path)
    if image.ndim == 2:
        return image
    return image[..., [2, 1, 0, 3][: image.shape[2]]]
