"""Pictures of what heads predict before it becomes a panoptic map, drawn with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

_LARGEST_SHARE = 0.99
"""Share of the pixels whose offsets keep their length; a few very long ones would hide the rest."""


def draw_heatmap(image: np.ndarray, heatmap: np.ndarray, alpha: float = 0.7) -> np.ndarray:
    """Draw a centre heatmap over its image: blue is 0, red is 1.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``.
        heatmap (np.ndarray): Float ``(H, W)``; values outside ``[0, 1]`` are clipped.
        alpha (float): Weight of the heatmap in ``[0, 1]``.

    Returns:
        np.ndarray: New uint8 RGB picture ``(H, W, 3)``.

    Raises:
        ValueError: If the sizes differ.
    """
    if heatmap.shape != image.shape[:2]:
        raise ValueError(f"the heatmap has size {heatmap.shape}, the image {image.shape[:2]}")
    finite = np.nan_to_num(heatmap.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.rint(np.clip(finite, 0, 1) * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(colors, alpha, image, 1 - alpha, 0))


def draw_offsets(
    offset: np.ndarray, mask: np.ndarray | None = None, longest: float | None = None
) -> np.ndarray:
    """Draw an offset field: the hue is the direction, the saturation the length.

    Right is red, down is yellow-green, left is cyan, up is violet; white is no offset. A wheel in
    the corner says so.

    Args:
        offset (np.ndarray): Float ``(2, H, W)``, (dy, dx) in pixels.
        mask (np.ndarray | None): bool ``(H, W)``, pixels to draw, the rest is grey; all if None.
        longest (float | None): Length of full saturation in pixels; by default the one that 99 %
            of the drawn pixels do not exceed.

    Returns:
        np.ndarray: New uint8 RGB picture ``(H, W, 3)``.

    Raises:
        ValueError: If the shapes are no field, or differ.
    """
    if offset.ndim != 3 or len(offset) != 2:
        raise ValueError(f"expected offsets (2, H, W), got {offset.shape}")
    if mask is not None and mask.shape != offset.shape[1:]:
        raise ValueError(f"the mask has size {mask.shape}, the offsets {offset.shape[1:]}")
    dy, dx = np.nan_to_num(offset.astype(np.float32), posinf=0.0, neginf=0.0)
    if longest is None:
        drawn = np.hypot(dy, dx) if mask is None else np.hypot(dy[mask], dx[mask])
        longest = float(np.quantile(drawn, _LARGEST_SHARE)) if drawn.size else 1.0
    picture = _color_directions(dy, dx, max(longest, 1e-6))
    if mask is not None:
        picture[~mask] = 128
    _add_wheel(picture)
    return picture


def _color_directions(dy: np.ndarray, dx: np.ndarray, longest: float) -> np.ndarray:
    """Turn vectors into uint8 RGB colours."""
    length, angle = cv2.cartToPolar(dx, dy, angleInDegrees=True)
    hue = np.rint(angle / 2).astype(np.int32) % 180  # OpenCV's hues are half degrees
    saturation = np.clip(length / longest, 0, 1) * 255
    value = np.full(dy.shape, 255, np.uint8)
    hsv = np.stack([hue.astype(np.uint8), np.rint(saturation).astype(np.uint8), value], axis=-1)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def _add_wheel(picture: np.ndarray) -> None:
    """Put the wheel of directions into the upper right corner, if there is room."""
    radius = min(picture.shape[:2]) // 12
    if radius < 4:
        return
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    inside = np.hypot(dy, dx) <= radius
    corner = picture[2 : 2 * radius + 3, -2 * radius - 3 : -2]
    corner[inside] = _color_directions(dy, dx, radius)[inside]
    center = (picture.shape[1] - radius - 3, radius + 2)
    cv2.circle(picture, center, radius, (0, 0, 0), 1, cv2.LINE_AA)
