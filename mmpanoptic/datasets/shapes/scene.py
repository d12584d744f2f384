"""One scene of the shapes dataset: ground, void, things in depth, and their annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpanoptic.structures import LabelTable, find_runs, rgb2id, segment_statistics

from .catalog import SHAPES_TABLE
from .ground import draw_fog, draw_ground
from .sprites import Sprite, draw_sprite

REFERENCE_SIZE = (128, 192)
"""Height and width at which a pattern or thing has the sizes that the code names."""

_VOID_RATE = 0.25
_CROWD_RATE = 0.2
_NEIGHBOUR_RATE = 0.3  # of the things that are put next to another one
_MIN_VISIBLE = 0.45  # of a thing's pixels inside the image
_MIN_INSIDE = 0.7  # of a thing's whole mask
_TRIES = 12
_NOISE = 2.5


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        image (np.ndarray): uint8 BGR ``(H, W, 3)``.
        ids (np.ndarray): int32 segment ids ``(H, W)``, 0 is void.
        segments (list[dict]): ``segments_info`` of COCO-panoptic format.
        masks (np.ndarray): bool ``(N, H, W)``, whole (amodal) masks of the things, far to near;
            the k-th has depth k + 1. A mask ends at the border of the image.
        mask_segments (list[dict]): The entry of ``segments`` of each mask.
    """

    image: np.ndarray
    ids: np.ndarray
    segments: list[dict[str, Any]]
    masks: np.ndarray
    mask_segments: list[dict[str, Any]]


class _Canvas:
    """The picture while it is painted, from far to near."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.size: tuple[int, int] = (image.shape[0], image.shape[1])
        self.owner = np.zeros(self.size, np.int32)  # 0 = ground, k = k-th thing
        self.labels: list[int] = []
        self.crowd: list[int] = []
        self.masks: list[np.ndarray] = []
        self.whole = [0]  # pixels of the amodal mask, by owner
        self.visible = np.array([image.shape[0] * image.shape[1]])  # pixels, by owner
        self.centers: list[tuple[float, float]] = []

    def fits(self, sprite: Sprite) -> bool:
        """Tell whether a sprite is visible and leaves enough of what it covers."""
        mask = sprite.mask
        area = int(mask.sum())
        if area < _MIN_INSIDE * sprite.full_area or not area:
            return False
        left = self.visible - self._hidden(mask, sprite)
        return bool((left[1:] >= _MIN_VISIBLE * np.array(self.whole[1:])).all())

    def _hidden(self, mask: np.ndarray, sprite: Sprite) -> np.ndarray:
        """Count by owner the pixels that ``mask`` would cover."""
        covered = self.owner[sprite.rows, sprite.columns][mask]
        return np.bincount(covered, minlength=len(self.whole))

    def paint(self, label: int, sprites: list[Sprite], crowd: bool) -> None:
        """Paint sprites as one segment over everything that is there."""
        self.labels.append(label)
        self.crowd.append(int(crowd))
        whole = np.zeros(self.owner.shape, bool)
        for sprite in sprites:
            place = sprite.rows, sprite.columns
            patch = self.image[place] * (1 - sprite.shadow[..., None])
            self.image[place] = patch + sprite.cover[..., None] * (sprite.color - patch)
            whole[place] |= sprite.mask
        self.masks.append(whole)
        self.visible = np.append(
            self.visible - np.bincount(self.owner[whole], minlength=len(self.whole)), whole.sum()
        )
        self.whole.append(int(whole.sum()))
        self.owner[whole] = len(self.labels)


def draw_scene(
    rng: np.random.Generator, height: int, width: int, table: LabelTable = SHAPES_TABLE
) -> Scene:
    """Draw one scene and its exact annotation.

    Args:
        rng (np.random.Generator): Everything random comes from it.
        height (int): Height in pixels.
        width (int): Width in pixels.
        table (LabelTable): The classes; names must be known to the drawing functions.

    Returns:
        Scene: Image, segment ids, segments and amodal masks.
    """
    scale = float(np.sqrt(height * width / np.prod(REFERENCE_SIZE)))
    names = [label.name for label in table if not label.isthing]
    image, stuff = draw_ground(rng, names, height, width, scale)
    stuff += 1
    if rng.random() < _VOID_RATE:
        stuff[draw_fog(rng, image, scale)] = 0
    canvas = _Canvas(image)
    if rng.random() < _CROWD_RATE:
        _add_crowd(rng, canvas, table, scale)
    for _ in range(int(rng.integers(3, 7))):
        _add_thing(rng, canvas, table, scale)
    image += rng.normal(0, _NOISE, image.shape).astype(np.float32)
    labels = [*table.stuff_labels, *canvas.labels]
    crowd = [0] * len(names) + canvas.crowd
    index = np.where(canvas.owner > 0, canvas.owner + len(names), stuff)
    ids, segments, order = _annotate(rng, index, labels, crowd, table)
    shape = (len(canvas.masks), height, width)
    return Scene(
        np.clip(np.round(image), 0, 255).astype(np.uint8),
        ids,
        segments,
        np.array(canvas.masks, bool).reshape(shape),
        [segments[order[len(names) + k]] for k in range(len(canvas.masks))],
    )


def _random_radius(rng: np.random.Generator, scale: float) -> float:
    """Choose large and small things alike; every tenth is tiny."""
    low, high = (5.0, 9.0) if rng.random() < 0.1 else (9.5, 30.0)
    return scale * float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _add_thing(rng: np.random.Generator, canvas: _Canvas, table: LabelTable, scale: float) -> None:
    """Paint a thing where it fits; a full image gets one less."""
    height, width = size = canvas.size
    label = int(rng.choice(table.thing_labels))
    for _ in range(_TRIES):
        radius = _random_radius(rng, scale)
        center = rng.uniform(0, width), rng.uniform(0, height)
        if canvas.centers and rng.random() < _NEIGHBOUR_RATE:
            center = _near(rng, canvas.centers, radius)
        sprite = draw_sprite(table[label].name, rng, center, radius, size)
        if canvas.fits(sprite):
            canvas.paint(label, [sprite], crowd=False)
            canvas.centers.append(center)
            return


def _near(
    rng: np.random.Generator, centers: list[tuple[float, float]], radius: float
) -> tuple[float, float]:
    """Choose a place where a thing of this radius is likely to cover a part of another."""
    x, y = centers[int(rng.integers(len(centers)))]
    angle, distance = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.9, 1.5)
    return x + distance * np.cos(angle), y + distance * np.sin(angle)


def _add_crowd(rng: np.random.Generator, canvas: _Canvas, table: LabelTable, scale: float) -> None:
    """Paint a group of small things of one class as one crowd segment."""
    height, width = size = canvas.size
    label = int(rng.choice(table.thing_labels))
    center = rng.uniform(0.2, 0.8, 2) * [width, height]
    sprites = []
    for step in range(int(rng.integers(7, 13))):
        # Sunflower order: the members keep a distance of about their own size.
        distance, angle = 6.5 * scale * np.sqrt(step), 2.39996 * step
        place = center + distance * np.array([np.cos(angle), np.sin(angle)])
        place += rng.uniform(-1, 1, 2) * scale
        radius = scale * rng.uniform(4.5, 6)
        sprites.append(draw_sprite(table[label].name, rng, (place[0], place[1]), radius, size))
    if any(sprite.mask.any() for sprite in sprites):
        canvas.paint(label, sprites, crowd=True)


def _annotate(
    rng: np.random.Generator,
    index: np.ndarray,
    labels: list[int],
    crowd: list[int],
    table: LabelTable,
) -> tuple[np.ndarray, list[dict[str, Any]], dict[int, int]]:
    """Number the visible segments and measure them in the finished map.

    Args:
        rng: Source of the ids.
        index: int ``(H, W)``; 0 is void, k the k-th of ``labels``.
        labels: Contiguous label of each segment.
        crowd: 1 for crowds, else 0.
        table: The classes.

    Returns:
        tuple: int32 ids ``(H, W)``, ``segments_info``, and the position in it by position in
        ``labels``.
    """
    runs = find_runs(index)
    area, box = segment_statistics(runs.value.astype(np.int64) - 1, runs, len(labels))
    visible = np.flatnonzero(area)
    ids = _choose_ids(rng, [table[labels[k]].color for k in visible])
    lookup = np.zeros(len(labels) + 1, np.int32)
    lookup[visible + 1] = ids
    segments = [
        {
            "id": int(segment_id),
            "category_id": table[labels[k]].dataset_id,
            "area": int(area[k]),
            "bbox": [int(value) for value in box[k]],
            "iscrowd": crowd[k],
        }
        for segment_id, k in zip(ids, visible, strict=True)
    ]
    order = {int(k): int(n) for n, k in enumerate(visible)}
    return runs.expand(lookup[runs.value]), segments, order


def _choose_ids(rng: np.random.Generator, colors: list[tuple[int, int, int]]) -> np.ndarray:
    """Choose different ids that look like the classes' colours in the PNG, as COCO's do."""
    while True:
        jitter = rng.integers(-12, 13, (len(colors), 3))
        near = np.clip(np.array(colors).reshape(-1, 3) + jitter, 0, 255).astype(np.uint8)
        ids = rgb2id(near)
        if len(np.unique(ids)) == len(ids) and ids.all():
            return ids
