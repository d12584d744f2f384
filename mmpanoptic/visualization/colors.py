"""Colours of segments: neighbours differ, also for colour-blind readers."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mmpanoptic.structures import LabelTable

PALETTES = ("classes", "colorblind")
"""Names of the palettes: the dataset's colours, or eight that colour-blind readers tell apart."""
COLORBLIND = np.array(
    [
        (86, 180, 233),
        (230, 159, 0),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (150, 150, 150),
    ],
    np.uint8,
)
"""RGB ``(8, 3)``; Okabe and Ito, "Color Universal Design", 2008, with grey for black."""
# Turn of the hue, factors of saturation and brightness; the first is the class's own colour.
_VARIATIONS = (
    (0.0, 1.0, 1.0),
    (0.10, 1.0, 1.0),
    (-0.10, 1.0, 1.0),
    (0.0, 0.45, 1.0),
    (0.05, 1.0, 0.62),
    (-0.05, 0.55, 0.75),
    (0.17, 0.8, 0.9),
    (-0.17, 0.8, 0.9),
)
# Shares of black (negative) or white: lightness is what every reader sees.
_LIGHTNESS = (0.0, -0.45, 0.5, -0.22, 0.26, -0.65, 0.72)
_ENOUGH = 90.0  # distance of two RGB colours that are told apart under a light fill
_REACH = 24  # pixels between two segments that are neighbours


def segment_colors(
    segments_info: Sequence[Mapping[str, Any]],
    table: LabelTable,
    index_map: np.ndarray | None = None,
    palette: str = PALETTES[0],
) -> np.ndarray:
    """Choose a colour for each segment.

    Stuff has the colour of its class. Things have one of eight variations of it, chosen one after
    the other so that it differs from those of the neighbours.

    Args:
        segments_info: Segments with ``label``; of videos also with ``track_id``, by which a thing
            keeps its colour.
        table: The classes.
        index_map (np.ndarray | None): Integer ``(H, W)``, k for the k-th segment, to find the
            neighbours in; without it the things of a class take the variations in turn.
        palette (str): One of :data:`PALETTES`.

    Returns:
        np.ndarray: uint8 RGB ``(S + 1, 3)``; row 0 (void) is black.

    Raises:
        ValueError: If there is no such palette.
    """
    if palette not in PALETTES:
        raise ValueError(f"unknown palette {palette!r}; there are {', '.join(PALETTES)}")
    colors = np.zeros((len(segments_info) + 1, 3), np.uint8)
    near = _neighbours(index_map, segments_info, table) if index_map is not None else {}
    choices: dict[int, np.ndarray] = {}
    count: Counter[int] = Counter()
    done: set[int] = set()
    for k, segment in enumerate(segments_info, start=1):
        label = table[segment["label"]]
        if label.index not in choices:
            choices[label.index] = variations(label.index, label.color, palette)
        own = choices[label.index]
        if not label.isthing:
            colors[k] = own[0]
            continue
        step = segment.get("track_id", count[label.index])
        others = [j for j in near.get(k, ()) if j in done]
        if others and "track_id" not in segment:
            step = _differing(own, colors[others])
        elif index_map is not None and "track_id" not in segment:
            step = 0
        colors[k] = own[step % len(own)]
        count[label.index] += 1
        done.add(k)
    return colors


def variations(index: int, color: Sequence[int], palette: str) -> np.ndarray:
    """List the colours that things of a class may have.

    Args:
        index (int): Position of the class.
        color (Sequence[int]): RGB of the class in the dataset.
        palette (str): One of :data:`PALETTES`.

    Returns:
        np.ndarray: uint8 RGB ``(V, 3)``; the first one stands for the class.
    """
    if palette == PALETTES[0]:
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
        # Shades of a dark colour could not be told apart.
        brighter = [value] + [max(value, 0.75)] * (len(_VARIATIONS) - 1)
        varied = [
            colorsys.hsv_to_rgb((hue + turn) % 1.0, max(saturation, 0.5 * bool(turn)) * a, v * b)
            for (turn, a, b), v in zip(_VARIATIONS, brighter, strict=True)
        ]
        return np.array(np.rint(255 * np.array(varied)), np.uint8)
    # Classes beyond the eighth begin with another lightness of the same eight colours.
    base = COLORBLIND[index % len(COLORBLIND)].astype(float)
    shares = np.roll(_LIGHTNESS, -(index // len(COLORBLIND)))[:, None]
    mixed = np.where(shares < 0, base * (1 + shares), base + (255 - base) * shares)
    return np.array(np.rint(mixed), np.uint8)


def _differing(own: np.ndarray, others: np.ndarray) -> int:
    """Choose the first variation that differs enough from all others, else the best one."""
    gap = np.linalg.norm(own[:, None].astype(float) - others[None], axis=2).min(1)
    enough = np.flatnonzero(gap >= _ENOUGH)
    return int(enough[0]) if len(enough) else int(gap.argmax())


def _neighbours(
    index_map: np.ndarray, segments_info: Sequence[Mapping[str, Any]], table: LabelTable
) -> dict[int, set[int]]:
    """Find the things that touch or nearly touch each other.

    Every pixel is given to the nearest thing by one distance transform; things whose areas meet
    within reach are neighbours.
    """
    isthing = np.array([False, *(table[s["label"]].isthing for s in segments_info)])
    things = isthing[index_map]
    if not things.any():
        return {}
    distance, nearest = cv2.distanceTransformWithLabels(
        (~things).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner_of = np.zeros(int(nearest.max()) + 1, np.int64)
    owner_of[nearest[things]] = index_map[things]
    owner = owner_of[nearest]
    owner[distance > _REACH / 2] = 0
    codes = []
    for one, two in ((owner[:, :-1], owner[:, 1:]), (owner[:-1], owner[1:])):
        meet = (one != two) & (one > 0) & (two > 0)
        codes.append(one[meet] * len(isthing) + two[meet])
    near: dict[int, set[int]] = {}
    for code in np.unique(np.concatenate(codes)).tolist():
        first, second = divmod(code, len(isthing))
        near.setdefault(first, set()).add(second)
        near.setdefault(second, set()).add(first)
    return near
