"""What a server accepts, and the look at an image before it is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

from mmpanoptic.utils.image_bytes import read_size

from .errors import RequestError

FORMATS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff"}
"""Pillow's names of the formats that are decoded, and their media types behind ``image/``."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        body (int): Bytes of an image's file.
        pixels (int): Pixels of an image.
        seconds (float): For a request to arrive, and then for its answer.
        workers (int): Requests that are worked on at once; the model itself runs one by one.
        waiting (int): Requests that wait.
        kept (int): Images whose network outputs are kept.
        kept_bytes (int): Bytes of all kept outputs.
    """

    body: int = 20 << 20
    pixels: int = 16_000_000
    seconds: float = 60.0
    workers: int = 1
    waiting: int = 16
    kept: int = 16
    kept_bytes: int = 1 << 30

    def to_dict(self) -> dict[str, float | str]:
        """List what clients want to know."""
        return {
            "bytes": self.body,
            "pixels": self.pixels,
            "seconds": self.seconds,
            "formats": ", ".join(FORMATS),
        }


def check_image(data: bytes, limits: Limits) -> None:
    """Read the kind and the size of an image from its header; nothing is decoded.

    Args:
        data (bytes): The file.
        limits (Limits): Of the server.

    Raises:
        RequestError: If it is empty, of another format, or has too many pixels.
    """
    from PIL import Image

    if not data:
        raise RequestError(
            400,
            "the request has no body",
            "the bytes of one image as the body",
            "send the file itself, as curl --data-binary @image.jpg does",
        )
    try:
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
            size = image.size
    except Image.DecompressionBombError:
        raise _too_many_pixels("more than Pillow reads", limits) from None
    except Exception:  # Pillow's readers raise whatever a damaged header leads to
        raise RequestError(
            415,
            "the body is no image of a known format, or its header is damaged",
            f"an image as {', '.join(FORMATS)}",
            "send the bytes of the file as they are: no form, no base64; convert other formats",
        ) from None
    # The two readers look at the header in ways of their own; the larger size counts.
    for width, height in (size, (read_size(data) or (0, 0))[::-1]):
        if width * height > limits.pixels:
            raise _too_many_pixels(f"{width} x {height}", limits)


def _too_many_pixels(size: str, limits: Limits) -> RequestError:
    return RequestError(
        413,
        f"the image has too many pixels: {size} (width x height)",
        f"{limits.pixels:,} pixels",
        "send a smaller image, or start the server with a greater --max-megapixels",
    )
