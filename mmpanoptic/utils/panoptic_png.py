"""Panoptic PNGs: 8-bit RGB, colour = segment id."""

from __future__ import annotations

import io
import os

import numpy as np

from mmpanoptic.structures import FlatRuns, color_runs, id2rgb, rgb2id

from .format_errors import format_error
from .png_bytes import RGB, RGBA, decode_pixels, read_header, read_png


def read_panoptic_png(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the segment ids of a panoptic PNG.

    Args:
        path: 8-bit RGB or RGBA (alpha is dropped) PNG with ``id = R + 256 G + 65536 B``; it may lie
            in a zip archive.

    Returns:
        np.ndarray: int32 ids ``(H, W)``, 0 = void.

    Raises:
        PanopticFormatError: Of kind ``missing_file``, ``corrupt_png`` (truncated, damaged, no
            PNG) or ``bad_png_mode`` (grey, palette or 16-bit, which OpenCV would widen silently
            into colours that are no ids).
    """
    return decode_panoptic_png(read_png(path), path)


def read_panoptic_colors(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the colours of a panoptic PNG, which :func:`~mmpanoptic.structures.color_runs` takes.

    Args:
        path: As for :func:`read_panoptic_png`.

    Returns:
        np.ndarray: uint8 ``(H, W, 3)`` in RGB order.

    Raises:
        PanopticFormatError: As :func:`read_panoptic_png`.
    """
    return _decode_colors(read_png(path), path)


def read_panoptic_runs(path: str | os.PathLike[str]) -> FlatRuns:
    """Read the segment ids of a panoptic PNG as runs over row ends.

    Args:
        path: As for :func:`read_panoptic_png`.

    Returns:
        FlatRuns: Of int32 ids, 0 = void.

    Raises:
        PanopticFormatError: As :func:`read_panoptic_png`.
    """
    return color_runs(read_panoptic_colors(path))


def decode_panoptic_png(data: bytes, path: str | os.PathLike[str] = "<memory>") -> np.ndarray:
    """Decode the bytes of a panoptic PNG; see :func:`read_panoptic_png`.

    Args:
        data: Content of the file.
        path: Named in error messages.

    Returns:
        np.ndarray: int32 ids ``(H, W)``, 0 = void.

    Raises:
        PanopticFormatError: As :func:`read_panoptic_png`.
    """
    return rgb2id(_decode_colors(data, path))


def _decode_colors(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    header = read_header(data, path)
    if header.depth != 8 or header.color_type not in (RGB, RGBA):
        raise format_error("bad_png_mode", f"the PNG is {header}, expected 8-bit RGB", path)
    return decode_pixels(data, path)[..., :3]


def encode_panoptic_png(ids: np.ndarray) -> bytes:
    """Encode segment ids as a panoptic PNG.

    Args:
        ids (np.ndarray): Integer ids ``(H, W)``, each in ``[0, 2**24 - 1]``.

    Returns:
        bytes: Content of an 8-bit RGB PNG.

    Raises:
        ValueError: If an id does not fit into 24 bits or OpenCV cannot encode the map.
    """
    try:
        import cv2
    except ModuleNotFoundError:  # beside an exported model there may be Pillow alone
        return _encode_with_pillow(id2rgb(ids))
    done, data = cv2.imencode(".png", cv2.cvtColor(id2rgb(ids), cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV cannot encode a map of shape {ids.shape} as PNG")
    return data.tobytes()


def _encode_with_pillow(colors: np.ndarray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(colors).save(content, "PNG")
    return content.getvalue()
