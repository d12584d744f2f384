"""Outlines of the things: what a class looks like, whatever its colour."""

from __future__ import annotations

import numpy as np

_MAX_TURN = np.pi / 6


def _regular(corners: int) -> np.ndarray:
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def _disk(rng: np.random.Generator) -> list[np.ndarray]:
    stretch = rng.uniform(0.85, 1.0)
    return [_regular(64) * [stretch, 1.0]]


def _square(rng: np.random.Generator) -> list[np.ndarray]:
    stretch = rng.uniform(0.8, 1.0)
    return [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [0.76 * stretch, 0.76]]


def _triangle(rng: np.random.Generator) -> list[np.ndarray]:
    tip = rng.uniform(-0.25, 0.25)
    return [np.array([[tip, -1.0], [0.9, 0.66], [-0.9, 0.66]])]


def _star(rng: np.random.Generator) -> list[np.ndarray]:
    points = _regular(10)
    points[1::2] *= rng.uniform(0.42, 0.5)
    return [points]


def _ring(rng: np.random.Generator) -> list[np.ndarray]:
    return [_regular(64), _regular(64) * rng.uniform(0.45, 0.55)]


def _cross(rng: np.random.Generator) -> list[np.ndarray]:
    a = rng.uniform(0.26, 0.34)
    quarter = np.array([[-a, -0.95], [a, -0.95], [a, -a]])
    turns = [np.array([[0, 1], [-1, 0]])] * 3
    corners = [quarter]
    for turn in turns:
        corners.append(corners[-1] @ turn)
    return [np.concatenate(corners)]


_OUTLINES = {
    "disk": _disk,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}


def draw_outline(name: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Choose an outline of a thing class.

    Args:
        name (str): Name of the class.
        rng (np.random.Generator): Source of the variation.

    Returns:
        list[np.ndarray]: Closed contours, each float64 ``(K, 2)`` as x, y inside the unit circle;
        a second contour is a hole.
    """
    contours = _OUTLINES[name](rng)
    angle = rng.uniform(-_MAX_TURN, _MAX_TURN)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [contour @ turn for contour in contours]
