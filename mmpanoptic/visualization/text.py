"""Text on pictures, with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Measure a line of text: width and height of its box in pixels."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height + baseline


def put_text(
    image: np.ndarray,
    text: str,
    origin: tuple[int, int],
    scale: float,
    color: Sequence[int] = _WHITE,
) -> None:
    """Write a line of text in place.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``.
        text (str): One line.
        origin (tuple[int, int]): x, y of the upper left corner of its box.
        scale (float): Size, 1 is about 22 pixels high.
        color (Sequence[int]): RGB.
    """
    (_, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    place = (int(origin[0]), int(origin[1]) + height)
    cv2.putText(image, text, place, _FONT, scale, tuple(map(int, color)), 1, cv2.LINE_AA)


def tag_size(text: str, scale: float) -> tuple[int, int]:
    """Measure the plate of :func:`put_tag`: width and height in pixels."""
    pad = max(2, round(6 * scale))
    width, height = text_size(text, scale)
    return width + 2 * pad, height + pad


def put_tag(
    image: np.ndarray, text: str, origin: tuple[int, int], scale: float, color: Sequence[int]
) -> None:
    """Write a name on a dark plate with a coloured line under it, moved to be inside the image.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``, changed in place.
        text (str): One line.
        origin (tuple[int, int]): x, y of the plate's upper left corner.
        scale (float): Size of the text.
        color (Sequence[int]): RGB of the line.
    """
    height, width = image.shape[:2]
    pad = max(2, round(6 * scale))
    box_width, box_height = tag_size(text, scale)
    left = int(np.clip(origin[0], 0, max(width - box_width, 0)))
    top = int(np.clip(origin[1], 0, max(height - box_height, 0)))
    plate = image[top : top + box_height, left : left + box_width]
    plate[:] = (plate * 0.3).astype(np.uint8)
    plate[-max(1, pad // 2) :] = color
    put_text(image, text, (left + pad, top + pad // 2), scale)


def place_side_by_side(
    panels: Sequence[tuple[str, np.ndarray]], gap: int = 8, columns: int = 0
) -> np.ndarray:
    """Put pictures of one size in rows, each under its title.

    Args:
        panels: Title and uint8 RGB picture ``(H, W, 3)``.
        gap (int): Pixels between two pictures.
        columns (int): Pictures in a row, 0 for one row.

    Returns:
        np.ndarray: uint8 RGB.

    Raises:
        ValueError: If there is none or their sizes differ.
    """
    sizes = {picture.shape for _, picture in panels}
    if len(sizes) != 1:
        raise ValueError(f"pictures to put in a row must have one size, got {sorted(sizes)}")
    height, width = panels[0][1].shape[:2]
    scale = float(np.clip(height / 700, 0.4, 1.2))
    pad = round(6 * scale) + 1
    header = max(text_size(title, scale)[1] for title, _ in panels) + 2 * pad
    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    shape = (rows * (height + header + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for position, (title, picture) in enumerate(panels):
        row, column = divmod(position, columns)
        left, top = column * (width + gap), row * (height + header + gap)
        canvas[top + header : top + header + height, left : left + width] = picture
        put_text(canvas[:, : left + width], title, (left + 4, top + pad), scale, _BLACK)
    return canvas
