"""Pictures of a multiway cut: costs of classes and edges, cuts, components."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from mmpanoptic.structures import LabelTable

from .gallery import make_sheet
from .text import place_side_by_side

_LARGEST_SHARE = 0.99
"""Share of the values whose size is told apart; a few very large ones would hide the rest."""

_CUT_COLORS = ((255, 60, 60), (60, 220, 60))
"""Of cut row and column edges; both together are yellow."""


def draw_edge_costs(costs: np.ndarray) -> np.ndarray:
    """Draw the price of cutting edges: blue attracts, red repels, white is indifferent.

    Args:
        costs (np.ndarray): Float ``(h, w)``, positive where cutting costs.

    Returns:
        np.ndarray: uint8 RGB ``(h, w, 3)``.
    """
    size = np.abs(costs.astype(np.float32))
    strength = np.clip(size / _reach(size), 0, 1)
    fade = np.rint(255 * (1 - strength)).astype(np.uint8)
    full = np.full_like(fade, 255)
    blue = np.stack([fade, fade, full], axis=-1)
    red = np.stack([full, fade, fade], axis=-1)
    return np.where((costs > 0)[..., None], blue, red)


def draw_class_costs(costs: np.ndarray, table: LabelTable) -> np.ndarray:
    """Draw the cheapest class of each cell; the paler, the closer the second cheapest.

    Args:
        costs (np.ndarray): Float ``(C, h, w)``.
        table (LabelTable): The C classes and their colours.

    Returns:
        np.ndarray: uint8 RGB ``(h, w, 3)``.
    """
    colors = np.array([label.color for label in table], np.float32)[costs.argmin(0)]
    if len(costs) == 1:
        return colors.astype(np.uint8)
    first, second = np.partition(costs.astype(np.float32), 1, axis=0)[:2]
    margin = second - first
    sure = np.clip(margin / _reach(margin), 0, 1)[..., None]
    return np.rint(255 - (255 - colors) * (0.2 + 0.8 * sure)).astype(np.uint8)


def draw_cuts(cuts: np.ndarray) -> np.ndarray:
    """Draw cut edges: red between rows, green between columns, yellow both, black none.

    Args:
        cuts (np.ndarray): bool ``(2, h, w)``, row and column edges.

    Returns:
        np.ndarray: uint8 RGB ``(h, w, 3)``.
    """
    picture = np.zeros((*cuts.shape[1:], 3), np.int32)
    for cut, color in zip(cuts, _CUT_COLORS, strict=True):
        picture += cut[..., None] * np.array(color)
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw_components(components: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw every connected component in a random colour.

    Args:
        components (np.ndarray): Integers ``(h, w)`` from 0.
        seed (int): Of the colours.

    Returns:
        np.ndarray: uint8 RGB ``(h, w, 3)``.
    """
    generator = np.random.default_rng(seed)
    colors = generator.integers(40, 256, (int(components.max(initial=0)) + 1, 3), np.uint8)
    return np.asarray(colors[components])


def draw_multicut(
    fields: Mapping[str, np.ndarray], table: LabelTable, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Draw all fields that ``MulticutHead`` returns as ``pred_heads``.

    Args:
        fields (Mapping): ``class_cost`` ``(C, h, w)``, ``component`` ``(1, h, w)``, ``cost_{d}``
            and ``cut_{d}`` ``(2, h, w)``.
        table (LabelTable): The classes.
        size (tuple[int, int]): Height and width of the pictures.

    Returns:
        dict[str, np.ndarray]: uint8 RGB pictures by kind: ``class_cost``, ``component``,
        ``cost_{d}_row``, ``cost_{d}_column`` and ``cut_{d}``.
    """
    pictures = {}
    for name, values in fields.items():
        if name == "class_cost":
            pictures[name] = draw_class_costs(values, table)
        elif name == "component":
            pictures[name] = draw_components(values[0])
        elif name.startswith("cost_"):
            for direction, plane in zip(("row", "column"), values, strict=True):
                pictures[f"{name}_{direction}"] = draw_edge_costs(plane)
        else:
            pictures[name] = draw_cuts(values)
    width_height = (size[1], size[0])
    return {
        name: np.asarray(cv2.resize(picture, width_height, interpolation=cv2.INTER_NEAREST))
        for name, picture in pictures.items()
    }


def multicut_sheet(
    image: np.ndarray, result: np.ndarray, pictures: Mapping[str, np.ndarray], width: int = 360
) -> np.ndarray:
    """Put image, costs, cuts and result of a multiway cut on one sheet.

    Args:
        image (np.ndarray): uint8 RGB ``(H, W, 3)``.
        result (np.ndarray): Drawing of the panoptic map, uint8 RGB ``(H, W, 3)``.
        pictures (Mapping): From :func:`draw_multicut`, of the same size.
        width (int): Narrower pictures are enlarged to this.

    Returns:
        np.ndarray: uint8 RGB; a row of the image, its classes, components and result, and a row of
        costs and cuts for each distance.
    """
    rows = [
        [
            ("image", image),
            ("cheapest class", pictures["class_cost"]),
            ("components", pictures["component"]),
            ("result", result),
        ]
    ]
    distances = sorted(int(n.removeprefix("cut_")) for n in pictures if n.startswith("cut_"))
    for distance in distances:
        ways = [
            (f"{way} edges, distance {distance}", pictures[f"cost_{distance}_{way}"])
            for way in ("row", "column")
        ]
        rows.append([*ways, (f"cuts, distance {distance}", pictures[f"cut_{distance}"])])
    factor = max(1, -(-width // image.shape[1]))
    enlarged = [
        [(title, picture.repeat(factor, 0).repeat(factor, 1)) for title, picture in row]
        for row in rows
    ]
    return make_sheet([place_side_by_side(row) for row in enlarged], columns=1)


def _reach(values: np.ndarray) -> float:
    largest = float(np.quantile(values, _LARGEST_SHARE)) if values.size else 1.0
    return max(largest, 1e-6)
