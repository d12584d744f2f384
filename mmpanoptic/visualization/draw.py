"""Draw panoptic maps with OpenCV and NumPy: fills, outlines, names, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mmpanoptic.structures import LabelTable, find_runs

from .colors import PALETTES, segment_colors
from .text import put_tag, tag_size

_VOID_DARK, _VOID_LIGHT = (24, 24, 24), (72, 72, 72)
_MIN_TEXT_SCALE = 0.35
_VIEW_SIDES = (384, 960)  # smaller images are enlarged for a page, larger ones reduced
_TAG_SHARE = 0.12  # of its segment that a name may cover


@dataclass(frozen=True)
class DrawStyle:
    """How a panoptic map is drawn.

    Attributes:
        alpha (float): Weight of the fill of things, 0 shows the image alone, 1 the fill alone.
            Stuff is tinted more lightly, and the tint dims with the image: what is black stays
            black.
        outlines (bool): Draw the borders of segments.
        names (bool): Write the name of each segment that has room for it.
        scores (bool): Write the score behind the name, where a segment has one.
        void (bool): Hatch pixels without a label; else they show the image.
        palette (str): ``classes``, the dataset's colours, or ``colorblind``.
    """

    alpha: float = 0.5
    outlines: bool = True
    names: bool = True
    scores: bool = True
    void: bool = True
    palette: str = PALETTES[0]

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")
        if self.palette not in PALETTES:
            raise ValueError(f"unknown palette {self.palette!r}; there are {', '.join(PALETTES)}")


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
    colors = segment_colors(segments_info, table, index_map, style.palette)
    isthing = np.array([False, *(table[s["label"]].isthing for s in segments_info)])
    things = isthing[index_map]
    picture = _fill(image, colors[index_map], things, style)
    void = index_map == 0
    if void.any():
        picture[void] = (_hatching(index_map.shape) if style.void else image)[void]
    edges = find_edges(index_map)
    if style.outlines:
        _draw_outlines(picture, index_map, edges, things, colors)
    if style.names:
        _draw_names(picture, index_map, edges, segments_info, table, colors, style.scores)
    return picture


def _fill(
    image: np.ndarray, painted: np.ndarray, things: np.ndarray, style: DrawStyle
) -> np.ndarray:
    """Lay the colours over the image: a fill on things, a tint as bright as the image on stuff."""
    picture = cv2.addWeighted(painted, style.alpha, image, 1 - style.alpha, 0)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.size else image[..., 0]
    # Fill and floor of its light fall faster than alpha, and are full where alpha is.
    weight, floor = style.alpha**1.7, style.alpha**3.3
    light = cv2.merge([cv2.addWeighted(grey, 1 - floor, grey, 0, 255 * floor)] * 3)
    tint = cv2.multiply(painted, light, scale=1 / 255)
    stuff = cv2.addWeighted(tint, weight, image, 1 - weight, 0)
    np.copyto(picture, stuff, where=~things[..., None])
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


def _draw_outlines(
    picture: np.ndarray,
    index_map: np.ndarray,
    edges: np.ndarray,
    things: np.ndarray,
    colors: np.ndarray,
) -> None:
    """Line each thing on its inner side with its colour; stuff only where it meets other stuff."""
    width = max(1, round(min(edges.shape) / 400))
    border = _thick(edges, width) & things
    between_stuff = edges.copy()
    between_stuff[:, :-1][things[:, :-1] | things[:, 1:]] = 0
    between_stuff[:-1][things[:-1] | things[1:]] = 0
    border |= _thick(between_stuff, width) & ~things
    picture[border] = colors[index_map[border]]


def _thick(edges: np.ndarray, width: int) -> np.ndarray:
    """Widen edges to ``width`` pixels on both sides, bool ``(H, W)``."""
    # An edge lies on the left or upper one of two pixels, so the anchor reaches further back.
    kernel = np.ones((2 * width, 2 * width), np.uint8)
    wide = cv2.dilate(edges, kernel, anchor=(width, width)) if edges.size else edges
    return wide.astype(bool)


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
    """Write the names that lie wholly in their segment and cover little of it."""
    points, reach = find_anchors(index_map, len(segments_info), edges)
    area = np.bincount(index_map.ravel(), minlength=len(segments_info) + 1)
    largest = float(np.clip(min(index_map.shape) / 900, _MIN_TEXT_SCALE, 1.0))
    scales = np.unique(np.linspace(largest, _MIN_TEXT_SCALE, 4))[::-1].tolist()
    smallest = tag_size("i", _MIN_TEXT_SCALE)[1] / 2
    for position in np.flatnonzero(reach >= smallest).tolist():
        text = segment_text(segments_info[position], table, scores)
        for scale in scales:
            width, height = tag_size(text, scale)
            left, top = (points[position] - (width // 2, height // 2)).tolist()
            under = index_map[max(top, 0) : top + height, max(left, 0) : left + width]
            covers_little = width * height <= _TAG_SHARE * area[position + 1]
            if covers_little and under.size == width * height and (under == position + 1).all():
                put_tag(picture, text, (left, top), scale, colors[position + 1].tolist())
                break


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


def fit_to_view(
    image: np.ndarray, maps: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Bring an image and its maps to a size that can be looked at on a page.

    Args:
        image (np.ndarray): uint8 ``(H, W, 3)``.
        maps (Sequence[np.ndarray]): Integer ``(H, W)``.

    Returns:
        tuple[np.ndarray, list[np.ndarray]]: Image and maps, enlarged by a whole factor or reduced.
    """
    least, most = _VIEW_SIDES
    large = [enlarge(image, index, least) for index in maps]
    image, maps = large[0][0], [index for _, index in large]
    factor = most / max(image.shape[:2])
    if factor >= 1:
        return image, maps
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small, [
        cv2.resize(index.astype(np.int32), size, interpolation=cv2.INTER_NEAREST) for index in maps
    ]
