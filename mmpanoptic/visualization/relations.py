"""Pictures of who lies in front of whom."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .text import put_tag, tag_size

_ARROW, _HALO = (255, 255, 255), (20, 20, 20)


def draw_relations(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    alpha: float = 0.35,
) -> np.ndarray:
    """Draw instances, and an arrow from each to those that it lies in front of.

    Masks may overlap: the outline of each is drawn whole, so what is hidden can be seen, too.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``.
        masks (Sequence[np.ndarray]): bool ``(H, W)``.
        names (Sequence[str]): Text on each.
        pairs (Sequence[tuple[int, int]]): Positions (front, behind).
        alpha (float): Weight of the fill.

    Returns:
        np.ndarray: New uint8 RGB picture ``(H, W, 3)``.
    """
    picture = image.copy()
    colors = relation_colors(len(masks))
    anchors = [_find_anchor(mask) for mask in masks]
    thickness = max(1, round(min(image.shape[:2]) / 300))
    for mask, color in zip(masks, colors, strict=True):
        picture[mask] = (picture[mask] * (1 - alpha) + np.array(color) * alpha).astype(np.uint8)
    for mask, color in zip(masks, colors, strict=True):
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, color, thickness)
    for front, behind in pairs:
        # Names stand at the anchors; the arrow stays between them.
        start, end = (_between(anchors[front], anchors[behind], place) for place in (0.2, 0.75))
        tip = 0.3 * min(1.0, 40 / max(np.hypot(start[0] - end[0], start[1] - end[1]), 1))
        for color, width in ((_HALO, 3 * thickness), (_ARROW, thickness)):
            cv2.arrowedLine(picture, start, end, color, width, cv2.LINE_AA, tipLength=tip)
    scale = max(0.35, min(image.shape[:2]) / 900)
    for name, anchor, color in zip(names, anchors, colors, strict=True):
        width, height = tag_size(name, scale)
        put_tag(picture, name, (anchor[0] - width // 2, anchor[1] - height // 2), scale, color)
    return picture


def _between(start: tuple[int, int], end: tuple[int, int], place: float) -> tuple[int, int]:
    x, y = (round(a + (b - a) * place) for a, b in zip(start, end, strict=True))
    return x, y


def relation_colors(count: int) -> list[tuple[int, int, int]]:
    """Choose colours that differ well, RGB."""
    hues = [round(180 * (0.618034 * k % 1.0)) for k in range(count)]
    hsv = np.array([[(hue, 200, 255) for hue in hues]], np.uint8).reshape(1, -1, 3)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] if count else np.zeros((0, 3), np.uint8)
    return [(int(r), int(g), int(b)) for r, g, b in rgb]


def _find_anchor(mask: np.ndarray) -> tuple[int, int]:
    """Find the pixel x, y that lies deepest inside a mask; 0, 0 without pixels."""
    # A frame of zeros makes the border of the image a border of the mask.
    distance = cv2.distanceTransform(
        cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3
    )
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return max(int(column) - 1, 0), max(int(row) - 1, 0)
