"""One thing, drawn as a small patch with coverage and colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .outlines import draw_outline
from .textures import draw_fill

_OVERSAMPLING = 4


@dataclass(frozen=True)
class Sprite:
    """A drawn thing, cut to the image.

    Attributes:
        rows (slice): Rows of the image which the patch covers.
        columns (slice): Columns of the image which the patch covers.
        cover (np.ndarray): float32 ``(h, w)``, covered part of each pixel.
        color (np.ndarray): float32 BGR ``(h, w, 3)`` in ``[0, 255]``.
        shadow (np.ndarray): float32 ``(h, w)``, strength of the shadow it throws.
        full_area (int): Pixels of the whole mask, outside of the image included.
    """

    rows: slice
    columns: slice
    cover: np.ndarray
    color: np.ndarray
    shadow: np.ndarray
    full_area: int

    @property
    def mask(self) -> np.ndarray:
        """Pixels that are covered to at least one half, bool ``(h, w)``."""
        return self.cover >= 0.5


def draw_sprite(
    name: str,
    rng: np.random.Generator,
    center: tuple[float, float],
    radius: float,
    image_size: tuple[int, int],
) -> Sprite:
    """Draw one thing.

    Args:
        name (str): Name of its class.
        rng (np.random.Generator): Source of the variation.
        center (tuple[float, float]): x, y in pixels.
        radius (float): Radius of the circle around it, in pixels.
        image_size (tuple[int, int]): Height and width of the image.

    Returns:
        Sprite: The patch; empty where it lies outside of the image.
    """
    side = 2 * int(np.ceil(1.35 * radius)) + 4
    left, top = (int(np.floor(value)) - side // 2 for value in center)
    offset = np.array([center[0] - left, center[1] - top])
    cover, edge = _rasterize(draw_outline(name, rng), offset, radius, side)
    fill, dark = draw_fill(name, rng, side, side)
    color = fill + edge[..., None] * (dark - fill)
    shift = max(1, round(0.12 * radius))
    shadow = np.zeros_like(cover)
    shadow[shift:, shift:] = cover[:-shift, :-shift]
    shadow = 0.4 * cv2.GaussianBlur(shadow, (0, 0), max(0.08 * radius, 0.6))
    height, width = image_size
    rows = slice(min(max(top, 0), height), max(min(top + side, height), 0))
    columns = slice(min(max(left, 0), width), max(min(left + side, width), 0))
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    return Sprite(
        rows, columns, cover[inside], color[inside], shadow[inside], int((cover >= 0.5).sum())
    )


def _rasterize(
    contours: list[np.ndarray], offset: np.ndarray, radius: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the contours at a higher resolution; return coverage and share of the edge in it."""
    fine = np.zeros((side * _OVERSAMPLING,) * 2, np.uint8)
    # Pixel centres lie at half numbers; fillPoly takes corner points at pixel centres.
    points = [
        np.round((contour * radius + offset) * _OVERSAMPLING - 0.5).astype(np.int32)
        for contour in contours
    ]
    cv2.fillPoly(fine, points, 255)
    border = _OVERSAMPLING * max(1.0, 0.045 * radius)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(border) + 1,) * 2)
    inner = cv2.erode(fine, kernel)
    cover, core = (
        cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        for part in (fine, inner)
    )
    edge = np.divide(cover - core, cover, out=np.zeros_like(cover), where=cover > 0)
    return cover, np.clip(edge, 0, 1)
