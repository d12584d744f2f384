"""Colours and textures: the texture defines a stuff class, the shape a thing class."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from .catalog import SHAPES_TABLE

# As in real scenes, colour helps but does not decide: one thing in seven has any colour.
_STRANGE_COLORS = 0.15


def _bgr(hue: float, saturation: float, value: float) -> np.ndarray:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return 255 * np.array([blue, green, red], np.float32)


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, smooth: bool = True
) -> np.ndarray:
    """Draw noise in ``[-1, 1]`` that changes over about ``cell`` pixels.

    Args:
        rng: Source of the noise.
        height: Height of the map.
        width: Width of the map.
        cell: Size of the cells in pixels.
        smooth: Interpolate between the cells' values, else each cell has one value.

    Returns:
        np.ndarray: float32 ``(height, width)``.
    """
    rows, columns = int(np.ceil(height / cell)) + 2, int(np.ceil(width / cell)) + 2
    coarse = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    size = (max(width, round(columns * cell)), max(height, round(rows * cell)))
    mode = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    return np.clip(cv2.resize(coarse, size, interpolation=mode)[:height, :width], -1, 1)


def _rotated_grid(
    rng: np.random.Generator, height: int, width: int, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    angle = rng.uniform(-spread, spread)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y + rng.uniform(0, 64), x + rng.uniform(0, 64)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _stripes(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    u, _ = _rotated_grid(rng, height, width, np.pi / 2)
    period = scale * rng.uniform(9, 13)
    return np.clip(0.5 + 1.6 * np.sin(2 * np.pi / period * u), 0, 1)


def _checks(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    u, v = _rotated_grid(rng, height, width, np.pi / 4)
    wave = np.pi / (scale * rng.uniform(7, 10))
    return np.clip(0.5 + 3 * np.sin(wave * u) * np.sin(wave * v), 0, 1)


def _dots(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    u, v = _rotated_grid(rng, height, width, np.pi / 4)
    period = scale * rng.uniform(9, 12)
    column = np.floor(u / period)
    v = v + 0.5 * period * (column % 2)
    distance = np.hypot(u % period - period / 2, v % period - period / 2)
    return np.clip(0.5 + (0.27 * period - distance) / scale, 0, 1)


def _grain(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    coarse = smooth_noise(rng, height, width, max(2.5 * scale, 1.0))
    fine = smooth_noise(rng, height, width, max(scale, 1.0), smooth=False)
    return np.clip(0.5 + 0.55 * coarse + 0.25 * fine, 0, 1)


def _plain(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    u, _ = _rotated_grid(rng, height, width, np.pi)
    ramp = (u - u.min()) / max(float(np.ptp(u)), 1.0)
    return np.clip(ramp + 0.2 * smooth_noise(rng, height, width, 60 * scale), 0, 1)


_TEXTURES = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "grain": _grain,
    "plain": _plain,
}


def draw_texture(
    name: str, rng: np.random.Generator, height: int, width: int, scale: float
) -> np.ndarray:
    """Draw the texture of a stuff class in two muted colours.

    Args:
        name (str): Name of the stuff class.
        rng (np.random.Generator): Source of the variation.
        height (int): Height of the image.
        width (int): Width of the image.
        scale (float): Size of the pattern, 1 for an image of 192 x 128.

    Returns:
        np.ndarray: float32 BGR ``(height, width, 3)`` in ``[0, 255]``.
    """
    hue, saturation, value = rng.uniform(), rng.uniform(0.12, 0.34), rng.uniform(0.72, 0.9)
    contrast = rng.uniform(0.22, 0.3)
    light = _bgr(hue, saturation * 0.8, value)
    dark = _bgr(hue + rng.uniform(-0.06, 0.06), saturation * 1.2, value - contrast)
    weight = _TEXTURES[name](rng, height, width, scale).astype(np.float32)[..., None]
    return weight * light + (1 - weight) * dark


def _class_hue(name: str) -> float:
    red, green, blue = SHAPES_TABLE.by_name(name).color
    return colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[0]


def draw_fill(
    name: str, rng: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what a thing is filled with: a bright colour, shaded, banded or lit from one side.

    Args:
        name (str): Name of the thing class.
        rng (np.random.Generator): Source of the variation.
        height (int): Height of the patch.
        width (int): Width of the patch.

    Returns:
        tuple[np.ndarray, np.ndarray]: float32 BGR fill ``(height, width, 3)`` and the dark colour
        ``(3,)`` of its edge, in ``[0, 255]``.
    """
    hue = _class_hue(name) + rng.normal(0, 0.02)
    if rng.random() < _STRANGE_COLORS:
        hue = rng.uniform()
    saturation, value = rng.uniform(0.72, 0.95), rng.uniform(0.82, 1.0)
    u, v = _rotated_grid(rng, height, width, np.pi)
    u, v = (u - u.mean()) / max(height, width), (v - v.mean()) / max(height, width)
    kind = rng.choice(["flat", "ramp", "light", "bands"], p=[0.3, 0.3, 0.2, 0.2])
    weights = {
        "flat": np.zeros_like(u),
        "ramp": np.clip(0.5 + u, 0, 1),
        "light": np.clip(1.5 * np.hypot(u - 0.15, v - 0.15), 0, 1),
        "bands": np.clip(0.5 + 3 * np.sin(2 * np.pi * 4 * u), 0, 1),
    }
    weight = weights[str(kind)].astype(np.float32)[..., None]
    first = _bgr(hue, saturation, value)
    second = _bgr(hue + rng.uniform(-0.04, 0.04), saturation, value * 0.72)
    return (1 - weight) * first + weight * second, _bgr(hue, 0.8, 0.22)
