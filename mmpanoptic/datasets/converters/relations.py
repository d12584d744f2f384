"""Who lies in front of whom in COCO: overlapping instance masks and who won in the panoptic map.

RAP's two extraction steps in one. No image and no PNG is read: the visible area of a segment
stands in the panoptic JSON, and masks are rasterised only where two boxes meet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from mmpanoptic.structures import OVERLAP_FIELD

from .relation_matching import MATCHERS, BoxMatch

FRONT_RULES = ("loss", "depth")


@dataclass(frozen=True)
class RelationOptions:
    """How relations are found.

    Attributes:
        overlap_thr (float): Two masks are related if their intersection is more than this
            fraction of one of them.
        matching (str): How segments find their instances, see :data:`MATCHERS`.
        front (str): Who of a related pair lies in front: "loss", the one that lost fewer pixels of
            its mask in the panoptic map (as published; whoever hides them counts); or "depth", the
            one whose annotation has the greater ``depth`` (as those of the shapes dataset have).

    Raises:
        ValueError: If an option is unknown or out of range.
    """

    overlap_thr: float = 0.2
    matching: str = "reference"
    front: str = "loss"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_thr < 1:
            raise ValueError(f"the overlap threshold must lie in [0, 1), got {self.overlap_thr}")
        if self.matching not in MATCHERS:
            raise ValueError(f"unknown matching {self.matching!r}; known: {', '.join(MATCHERS)}")
        if self.front not in FRONT_RULES:
            raise ValueError(f"unknown rule {self.front!r}; known: {', '.join(FRONT_RULES)}")


@dataclass
class RelationCounts:
    """What was seen on the way; :meth:`describe` says what the fields are."""

    images: int = 0
    images_with_relations: int = 0
    relations: int = 0
    thing_segments: int = 0
    matched: int = 0
    crowds: int = 0
    overlapping_pairs: int = 0
    small_overlaps: int = 0
    ties: int = 0

    def add(self, other: RelationCounts) -> None:
        """Add the counts of further images."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def describe(self) -> list[str]:
        """List the counts as text, one line each."""
        return [
            f"images with both annotations: {self.images}",
            f"images with relations: {self.images_with_relations}",
            f"relations: {self.relations}",
            f"thing segments: {self.thing_segments}",
            f"thing segments with an instance: {self.matched}",
            f"left out because one of both is a crowd: {self.crowds}",
            f"pairs of masks that overlap: {self.overlapping_pairs}",
            f"pairs that overlap too little: {self.small_overlaps}",
            f"pairs without a front (both lose as much, or have the same depth): {self.ties}",
        ]


@dataclass(frozen=True)
class ImageRelations:
    """Relations of one image.

    Attributes:
        fronts (dict): By id of an instance, the ids of those that lie in front of it, in the
            order of the annotation file; instances without have no entry.
        counts (RelationCounts): What was seen.
    """

    fronts: dict[Any, list[Any]] = field(default_factory=dict)
    counts: RelationCounts = field(default_factory=RelationCounts)


def find_relations(
    instances: Sequence[Mapping[str, Any]],
    segments: Sequence[Mapping[str, Any]],
    thing_ids: Collection[int],
    size: tuple[int, int],
    options: RelationOptions,
) -> ImageRelations:
    """Find the relations of one image.

    Args:
        instances (Sequence[Mapping]): Its annotations in the instance JSON, in file order.
        segments (Sequence[Mapping]): Its ``segments_info`` in the panoptic JSON.
        thing_ids (Collection[int]): Category ids of the things.
        size (tuple[int, int]): Height and width of the image.
        options (RelationOptions): How.

    Returns:
        ImageRelations: Relations and counts.
    """
    things = [segment for segment in segments if segment["category_id"] in thing_ids]
    matches = MATCHERS[options.matching](instances, things)
    counts = RelationCounts(images=1, thing_segments=len(things), matched=len(matches))
    pairs = sorted(((number, things[position]) for number, position in matches.items()), key=_first)
    single = [
        (instances[number], segment)
        for number, segment in pairs
        if not instances[number].get("iscrowd") and not segment.get("iscrowd")
    ]
    counts.crowds = len(pairs) - len(single)
    shapes = [Silhouette(instance["segmentation"], size) for instance, _ in single]
    result = ImageRelations(counts=counts)
    for i, j in _meeting_windows([shape.window for shape in shapes]):
        common = shapes[i].intersection(shapes[j])
        if not common:
            continue
        counts.overlapping_pairs += 1
        areas = (shapes[i].area, shapes[j].area)
        if all(common / area <= options.overlap_thr for area in areas):
            counts.small_overlaps += 1
            continue
        rank = [_front_rank(options.front, *single[k], shapes[k]) for k in (i, j)]
        if rank[0] == rank[1]:
            counts.ties += 1
            continue
        front, behind = (i, j) if rank[0] < rank[1] else (j, i)
        result.fronts.setdefault(single[behind][0]["id"], []).append(single[front][0]["id"])
        counts.relations += 1
    counts.images_with_relations = int(bool(result.fronts))
    return result


def add_overlaps(
    annotations: Sequence[dict[str, Any]], relations: Mapping[Any, Mapping[Any, Sequence[Any]]]
) -> None:
    """Give every annotation its ``overlap``, the ids of those in front of it, in place.

    Args:
        annotations (Sequence[dict]): Of the instance JSON.
        relations (Mapping): Ids in front by instance id by image id.
    """
    for annotation in annotations:
        fronts = relations.get(annotation["image_id"], {})
        annotation[OVERLAP_FIELD] = list(fronts.get(annotation["id"], ()))


class Silhouette:
    """The mask of one instance, rasterised when it is needed, inside its window.

    Args:
        segmentation: Polygons or a run-length code.
        size (tuple[int, int]): Height and width of the image.
    """

    def __init__(self, segmentation: Any, size: tuple[int, int]) -> None:
        self.size = size
        self._polygons: list[np.ndarray] | None = None
        self._mask: np.ndarray | None = None
        self._area = 0
        if isinstance(segmentation, Mapping):
            self._decode(segmentation)
            return
        # Coordinates are truncated, and the border pixels belong to the mask, as published.
        self._polygons = [
            np.asarray(polygon, dtype=np.float64).astype(np.int64).reshape(-1, 1, 2)
            for polygon in segmentation
        ]
        points = np.concatenate([np.empty((0, 1, 2), np.int64), *self._polygons])[:, 0]
        self.window = _clip(points, size)

    @property
    def mask(self) -> np.ndarray:
        """uint8 ``(h, w)``, 0 or 1."""
        if self._mask is None:
            x0, y0, x1, y1 = self.window
            self._mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            for polygon in self._polygons or ():
                cv2.fillPoly(self._mask, [(polygon - (x0, y0)).astype(np.int32)], 1)
            self._area = cv2.countNonZero(self._mask)
        return self._mask

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        if self._mask is None:
            _ = self.mask
        return self._area

    def intersection(self, other: Silhouette) -> int:
        """Count the pixels of both masks."""
        x0, y0 = (max(a, b) for a, b in zip(self.window[:2], other.window[:2], strict=True))
        x1, y1 = (min(a, b) for a, b in zip(self.window[2:], other.window[2:], strict=True))
        if x0 >= x1 or y0 >= y1:
            return 0
        crops = [
            shape.mask[
                y0 - shape.window[1] : y1 - shape.window[1],
                x0 - shape.window[0] : x1 - shape.window[0],
            ]
            for shape in (self, other)
        ]
        return cv2.countNonZero(cv2.bitwise_and(*crops))

    def _decode(self, code: Mapping[str, Any]) -> None:
        # Imported here: polygons, which are nearly all of COCO, do not need pycocotools.
        from pycocotools import mask as coco_mask

        if isinstance(code["counts"], list):
            code = coco_mask.frPyObjects(dict(code), *self.size)
        full = coco_mask.decode(code)
        rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
        self.window = (0, 0, 0, 0)
        if len(rows):
            self.window = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        x0, y0, x1, y1 = self.window
        self._mask = np.ascontiguousarray(full[y0:y1, x0:x1])
        self._area = cv2.countNonZero(self._mask) if len(rows) else 0


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def _clip(points: np.ndarray, size: tuple[int, int]) -> BoxMatch:
    """Return the window x0, y0, x1, y1 of points ``(P, 2)`` inside the image."""
    if not len(points):
        return (0, 0, 0, 0)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1 + 1, size[1]), min(y1 + 1, size[0])
    return (x0, y0, max(x1, x0), max(y1, y0))


def _meeting_windows(windows: Sequence[BoxMatch]) -> list[tuple[int, int]]:
    """Find the pairs i < j of windows with a common pixel, in order."""
    found = []
    for i, (x0, y0, x1, y1) in enumerate(windows):
        for j in range(i + 1, len(windows)):
            u0, v0, u1, v1 = windows[j]
            if max(x0, u0) < min(x1, u1) and max(y0, v0) < min(y1, v1):
                found.append((i, j))
    return found


def _front_rank(
    rule: str, instance: Mapping[str, Any], segment: Mapping[str, Any], shape: Silhouette
) -> float:
    """Rank an instance of a pair; the smaller one lies in front.

    Raises:
        ValueError: If the annotation has no depth.
    """
    if rule == "loss":
        return shape.area - segment["area"]
    if "depth" not in instance:
        raise ValueError(
            f"instance {instance['id']!r} has no depth, which the rule 'depth' needs; COCO's own "
            "annotations have none: choose 'loss'"
        )
    return -instance["depth"]
