"""Colour images in memory: sizes from their headers, pixels from whole files only."""

from __future__ import annotations

import io
from typing import NamedTuple

import cv2
import numpy as np

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_JPEG_END = b"\xff\xd9"
_TIFF = (b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112  # number of the EXIF tag
_MOST_PIXELS = 1 << 30  # OpenCV's own limit; libjpeg would make room for whatever a header says
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a length
_START_OF_SCAN = 0xDA
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_SAMPLINGS = {0x11, 0x21, 0x12, 0x22, 0x41, 0x14}  # of the first component; the others have 0x11


class ImageDamageError(ValueError):
    """An image file is damaged or none."""


class _Frame(NamedTuple):
    """What the frame header of a JPEG says."""

    marker: int
    precision: int
    height: int
    width: int
    samplings: tuple[int, ...]

    def is_known(self) -> bool:
        """Tell whether libjpeg-turbo's simple interface decodes such frames."""
        if self.marker not in _HUFFMAN_FRAMES or self.precision != 8:
            return False
        if len(self.samplings) == 1:
            return True
        first, *others = self.samplings
        return len(others) == 2 and first in _SAMPLINGS and set(others) == {0x11}


def read_size(data: bytes) -> tuple[int, int] | None:
    """Read height and width as stored, before orientation.

    Args:
        data: Content of the file.

    Returns:
        tuple[int, int] | None: ``(H, W)`` of a JPEG or PNG; None for others and for damaged ones.
    """
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
        return height, width
    frame = _find_frame(data) if data.startswith(_JPEG) else None
    return (frame.height, frame.width) if frame else None


def decode_image(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Decode as OpenCV does, but refuse damaged files.

    OpenCV fills what is lost of a JPEG with grey and writes a line to the standard error. Here a
    warning of the decoder counts as damage. Formats without checksums (BMP, WebP) show a cut end
    only, and so do CMYK JPEGs.

    Args:
        data: Content of the file.
        flags: Of ``cv2.imdecode``: :data:`cv2.IMREAD_COLOR`, and others on top of it.

    Returns:
        np.ndarray: ``(H, W, 3)`` BGR, or ``(H, W)``.

    Raises:
        ImageDamageError: If it is damaged, cut off or no image.
    """
    size = read_size(data)
    if size and size[0] * size[1] > _MOST_PIXELS:
        raise ImageDamageError(
            f"the header promises {size[1]} x {size[0]} pixels (width x height), more than "
            f"{_MOST_PIXELS:,} are never decoded"
        )
    if data.startswith(_JPEG):
        pixels = _decode_jpeg(data)
        if pixels is not None and (flags & cv2.IMREAD_IGNORE_ORIENTATION or _is_upright(data)):
            return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    elif data.startswith(_TIFF) or (data.startswith(_PNG) and b"IEND" not in data[-4096:]):
        _check_by_pillow(data)
    return _decode_by_opencv(data, flags)


def _decode_jpeg(data: bytes) -> np.ndarray | None:
    """Decode to RGB ``(H, W, 3)``; None for the kinds that only OpenCV decodes."""
    import kornia_rs.io as kornia

    frame = _find_frame(data)
    if frame is None or not frame.is_known():
        _check_by_pillow(data)
        return None
    trimmed = _without_padding(data)
    for version in (data, trimmed) if len(trimmed) < len(data) else (data,):
        try:
            # The same library as OpenCV's, and so the same pixels.
            return kornia.decode_image_jpegturbo(version, "rgb")
        except Exception:  # noqa: S112 - the package raises no narrower class
            continue
    _check_by_pillow(data)  # knows more exactly what is wrong, if the end is missing
    raise ImageDamageError(
        "the image is damaged: parts of the JPEG's data are lost or changed; fetch it again or, if "
        "it looks whole, save it anew"
    )


def _without_padding(data: bytes) -> bytes:
    """Drop zeros in front of the end mark, which some cameras write."""
    end = data.rfind(_JPEG_END)
    return data[:end].rstrip(b"\0") + _JPEG_END if end > 0 else data


def _find_frame(data: bytes) -> _Frame | None:
    """Find the frame header of a JPEG; None if there is none in front of the first scan."""
    place = data.find(b"\xff", 2)
    while 0 <= place < len(data) - 10:
        marker = data[place + 1]
        if marker == _START_OF_SCAN:
            return None
        if marker in _FRAMES:
            sides = (data[at : at + 2] for at in (place + 5, place + 7))
            height, width = (int.from_bytes(side, "big") for side in sides)
            samplings = data[place + 11 : place + 10 + 3 * data[place + 9] : 3]
            return _Frame(marker, data[place + 4], height, width, tuple(samplings))
        step = 1 if marker == 0xFF else 2
        if step == 2 and marker not in _STANDALONE:
            step += int.from_bytes(data[place + 2 : place + 4], "big")
        place = data.find(b"\xff", place + step)
    return None


def _is_upright(data: bytes) -> bool:
    """Tell whether a JPEG has no orientation tag that OpenCV would obey."""
    if b"Exif\0" not in data[: 1 << 17]:
        return True
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.getexif().get(_ORIENTATION, 1) == 1
    except (OSError, SyntaxError, ValueError):
        return False


def _check_by_pillow(data: bytes) -> None:
    """Decode with Pillow, which refuses files that are cut off, if it knows the kind."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return  # OpenCV has the last word, and a limit of its own
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageDamageError(f"the image is damaged: {error}") from error


def _decode_by_opencv(data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ImageDamageError(f"cannot decode the image: {error.err}") from error
    if image is None:
        raise ImageDamageError(f"cannot decode the image ({len(data)} bytes)")
    return image
