"""The ground of a scene: textured stuff regions, and places without a label."""

from __future__ import annotations

import numpy as np

from .textures import draw_texture, smooth_noise

_MIN_SHARE = 0.04  # of the image, below which a region goes to another class


def draw_ground(
    rng: np.random.Generator, names: list[str], height: int, width: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two to four stuff regions that fill the image.

    Args:
        rng (np.random.Generator): Source of the variation.
        names (list[str]): Names of the stuff classes.
        height (int): Height of the image.
        width (int): Width of the image.
        scale (float): Size of patterns, 1 for an image of 192 x 128.

    Returns:
        tuple[np.ndarray, np.ndarray]: float32 BGR image ``(H, W, 3)`` and int32 map ``(H, W)`` of
        positions in ``names``.
    """
    count = int(rng.integers(2, min(4, len(names)) + 1))
    chosen = rng.permutation(len(names))[:count].astype(np.int32)
    layout = _bands if rng.random() < 0.4 else _cells
    parts = layout(rng, count, height, width, scale)
    area = np.bincount(parts.ravel(), minlength=count)
    # A sliver would be a segment that nobody can see: give it to the largest part.
    merged = np.where(area < _MIN_SHARE * parts.size, area.argmax(), np.arange(count))
    stuff = chosen[merged[parts]]
    image = np.zeros((height, width, 3), np.float32)
    for label in np.unique(stuff):
        texture = draw_texture(names[label], rng, height, width, scale)
        np.copyto(image, texture, where=(stuff == label)[..., None])
    return image, stuff


def _warp(
    rng: np.random.Generator, height: int, width: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    strength, cell = 9 * scale, 40 * scale
    x = x + strength * smooth_noise(rng, height, width, cell)
    y = y + strength * smooth_noise(rng, height, width, cell)
    return x, y


def _cells(
    rng: np.random.Generator, count: int, height: int, width: int, scale: float
) -> np.ndarray:
    """Cut the image into warped Voronoi cells; a part has one or two of them."""
    x, y = _warp(rng, height, width, scale)
    sites = rng.uniform(0, 1, (count + int(rng.integers(0, 3)), 2)) * [width, height]
    distance = [(x - site_x) ** 2 + (y - site_y) ** 2 for site_x, site_y in sites]
    return np.argmin(distance, axis=0) % count


def _bands(
    rng: np.random.Generator, count: int, height: int, width: int, scale: float
) -> np.ndarray:
    """Cut the image into wavy bands."""
    x, y = _warp(rng, height, width, scale)
    angle = rng.uniform(-0.5, 0.5) + np.pi / 2 * (rng.random() < 0.65)
    along = x * np.cos(angle) + y * np.sin(angle)
    low, high = along.min(), along.max()
    cuts = (np.arange(1, count) + rng.uniform(-0.25, 0.25, count - 1)) / count
    return np.digitize(along, low + (high - low) * cuts)


def draw_fog(
    rng: np.random.Generator, image: np.ndarray, scale: float, max_share: float = 0.08
) -> np.ndarray:
    """Hide a blob of the image behind grey fog; what it was cannot be told.

    Args:
        rng (np.random.Generator): Source of the variation.
        image (np.ndarray): float32 BGR ``(H, W, 3)``, changed in place.
        scale (float): Size of patterns, 1 for an image of 192 x 128.
        max_share (float): Largest share of the image.

    Returns:
        np.ndarray: bool ``(H, W)``, the blob.
    """
    height, width = image.shape[:2]
    x, y = _warp(rng, height, width, scale)
    area = rng.uniform(0.3, 1.0) * max_share * height * width
    stretch = rng.uniform(0.6, 1.6)
    center_x, center_y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    radius = np.sqrt(area / np.pi)
    distance = np.hypot((x - center_x) / stretch, (y - center_y) * stretch) / radius
    blob = distance < 1
    image[blob] = 0.12 * image[blob] + 0.88 * np.float32(rng.uniform(50, 80))
    return blob
