"""Draw panoptic maps with OpenCV and NumPy: fills, outlines, names, scores."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mmpanoptic.structures import LabelTable, find_runs

from .text import put_tag, text_size

_VOID_DARK, _VOID_LIGHT = (24, 24, 24), (72, 72, 72)
_MIN_TEXT_SCALE = 0.35


@dataclass(frozen=True)
class DrawStyle:
    """How a panoptic map is drawn.

    Attributes:
        alpha (float): Weight of the fill, 0 shows the image alone, 1 the fill alone.
        outlines (bool): Draw the borders between segments.
        names (bool): Write the name of each segment that has room for it.
        scores (bool): Write the score behind the name, where a segment has one.
        void (bool): Hatch pixels without a label; else they show the image.
    """

    alpha: float = 0.65
    outlines: bool = True
    names: bool = True
    scores: bool = True
    void: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")


def segment_colors(segments_info: Sequence[Mapping[str, Any]], table: LabelTable) -> np.ndarray:
    """Choose a colour for each segment.

    Stuff has the colour of its class; the things of a class differ a little from it, so that
    neighbours can be told apart.

    Args:
        segments_info: Segments with ``label``; of videos also with ``track_id``, by which a thing
            keeps its colour.
        table: The classes.

    Returns:
        np.ndarray: uint8 RGB ``(S + 1, 3)``; row 0 (void) is black.
    """
    count: Counter[int] = Counter()
    colors = [(0, 0, 0)]
    for segment in segments_info:
        label = table[segment["label"]]
        step = segment.get("track_id", count[label.index])
        colors.append(_vary(label.color, step) if label.isthing else label.color)
        count[label.index] += 1
    return np.array(colors, np.uint8)


def _vary(color: tuple[int, int, int], step: int) -> tuple[int, int, int]:
    """Shift hue and brightness; step 0 is the colour itself."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    turn = 0.618033988749895 * step % 1.0
    hue += 0.11 * (turn - 0.5 * (step > 0))
    value = value * (1 - 0.3 * (0.381966 * step % 1.0))
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_panoptic(
    image: np.ndarray,
    index_map: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    table: LabelTable,
    style: DrawStyle | None = None,
) -> np.ndarray:
    """Draw a panoptic map over its image.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``.
        index_map (np.ndarray): Integer ``(H, W)``; 0 is void, k the k-th of ``segments_info``.
        segments_info: Segments with ``label`` and optionally ``score`` and ``iscrowd``.
        table (LabelTable): The classes.
        style (DrawStyle | None): How to draw.

    Returns:
        np.ndarray: New uint8 RGB picture ``(H, W, 3)``.

    Raises:
        ValueError: If sizes differ or the map holds an index without segment.
    """
    style = style or DrawStyle()
    _check(image, index_map, segments_info)
    colors = segment_colors(segments_info, table)
    # One look-up paints all segments, however many there are.
    picture = cv2.addWeighted(colors[index_map], style.alpha, image, 1 - style.alpha, 0)
    void = index_map == 0
    if void.any():
        picture[void] = (_hatching(index_map.shape) if style.void else image)[void]
    edges = find_edges(index_map)
    if style.outlines:
        _draw_outlines(picture, edges)
    if style.names:
        _draw_names(picture, index_map, edges, segments_info, table, colors, style.scores)
    return picture


def _check(
    image: np.ndarray, index_map: np.ndarray, segments_info: Sequence[Mapping[str, Any]]
) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 image (H, W, 3), got {image.dtype} {image.shape}")
    if index_map.shape != image.shape[:2]:
        raise ValueError(
            f"the panoptic map has (height, width) {index_map.shape}, the image "
            f"{image.shape[:2]}; resize one of them first (maps with nearest interpolation)"
        )
    if index_map.size and not 0 <= index_map.min() <= index_map.max() <= len(segments_info):
        raise ValueError(
            f"the panoptic map holds indices {index_map.min()}..{index_map.max()}, but there are "
            f"{len(segments_info)} segments (0 is void)"
        )


def _hatching(shape: tuple[int, ...]) -> np.ndarray:
    """Dark diagonal stripes, uint8 RGB."""
    height, width = shape
    period = max(4, min(height, width) // 32)
    stripe = (np.arange(height)[:, None] + np.arange(width)) % (2 * period) < period
    return np.array([_VOID_DARK, _VOID_LIGHT], np.uint8)[stripe.astype(np.intp)]


def find_edges(index_map: np.ndarray) -> np.ndarray:
    """Find the pixels whose right or lower neighbour belongs to another segment.

    Args:
        index_map (np.ndarray): Integer ``(H, W)``.

    Returns:
        np.ndarray: uint8 ``(H, W)``, 1 on edges.
    """
    edges = np.zeros(index_map.shape, np.uint8)
    edges[:, :-1] = index_map[:, 1:] != index_map[:, :-1]
    edges[:-1] |= index_map[1:] != index_map[:-1]
    return edges


def _draw_outlines(picture: np.ndarray, edges: np.ndarray) -> None:
    """Darken a line along the edges and light up its middle; both show on any colour."""
    width = max(1, round(min(edges.shape) / 300))
    dark = cv2.dilate(edges, np.ones((2 * width + 1,) * 2, np.uint8)).astype(bool)
    picture[dark] = (picture[dark] * 0.45).astype(np.uint8)
    light = cv2.dilate(edges, np.ones((width,) * 2, np.uint8)).astype(bool)
    picture[light] = 255


def find_anchors(
    index_map: np.ndarray, num_segments: int, edges: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find in each segment the point that is farthest from its border.

    One distance transform of the whole map serves all segments.

    Args:
        index_map (np.ndarray): Integer ``(H, W)``; 0 is void.
        num_segments (int): Number of segments S.
        edges (np.ndarray | None): From :func:`find_edges`.

    Returns:
        tuple[np.ndarray, np.ndarray]: int64 points ``(S, 2)`` as x, y and float32 distances
        ``(S,)`` in pixels; a segment without pixels has distance 0 at 0, 0.
    """
    edges = find_edges(index_map) if edges is None else edges
    # A frame of edges: text shall not sit at the border of the image either.
    inside = cv2.copyMakeBorder(1 - edges, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    runs = find_runs(index_map)
    flat = distance.ravel()
    best = np.maximum.reduceat(flat, runs.start) if len(runs.start) else flat
    # The best run of each segment: the last of its entries when sorted by segment, then distance.
    order = np.lexsort((best, runs.value))
    value = runs.value[order]
    last = order[np.append(value[1:] != value[:-1], True)] if len(order) else order
    points, reach = np.zeros((num_segments, 2), np.int64), np.zeros(num_segments, np.float32)
    for run in last[runs.value[last] > 0]:
        segment = int(runs.value[run]) - 1
        start = runs.start[run]
        offset = int(flat[start : start + runs.length[run]].argmax())
        points[segment] = runs.column[run] + offset, runs.row[run]
        reach[segment] = best[run]
    return points, reach


def _draw_names(
    picture: np.ndarray,
    index_map: np.ndarray,
    edges: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    table: LabelTable,
    colors: np.ndarray,
    scores: bool,
) -> None:
    """Write names where they fit, small segments last so that they end on top."""
    points, reach = find_anchors(index_map, len(segments_info), edges)
    largest = float(np.clip(min(index_map.shape) / 900, _MIN_TEXT_SCALE, 1.0))
    for position in np.argsort(-reach, kind="stable"):
        text = segment_text(segments_info[position], table, scores)
        room = 2.0 * reach[position]
        width, height = text_size(text, largest)
        scale = largest * min(1.0, 2.2 * room / width, room / height)
        if scale >= _MIN_TEXT_SCALE:
            x, y = points[position]
            put_tag(picture, text, (int(x), int(y)), scale, colors[position + 1].tolist())


def segment_text(segment: Mapping[str, Any], table: LabelTable, scores: bool = True) -> str:
    """Name a segment, as in ``car 0.93``, ``person (crowd)`` or, of stuff, without score, ``sky``.

    The published systems do not score stuff.
    """
    label = table[segment["label"]]
    text = str(label.name)
    if segment.get("iscrowd"):
        text += " (crowd)"
    if scores and label.isthing and segment.get("score") is not None:
        text += f" {float(segment['score']):.2f}"
    return text


def enlarge(image: np.ndarray, index_map: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge a small image and its map by a whole factor, so that names can be read.

    Args:
        image (np.ndarray): uint8 ``(H, W, 3)``.
        index_map (np.ndarray): Integer ``(H, W)``.
        side (int): The shorter side shall have about this many pixels; larger images stay.

    Returns:
        tuple[np.ndarray, np.ndarray]: Image and map.
    """
    factor = max(1, round(side / max(1, min(index_map.shape))))
    if factor == 1:
        return image, index_map
    height, width = index_map.shape
    size = (width * factor, height * factor)
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return large, np.repeat(np.repeat(index_map, factor, axis=0), factor, axis=1)
