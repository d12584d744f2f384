"""Polygon files of Cityscapes and of sets that follow it: reading and checking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpanoptic.utils.coco_file import MAX_SIDE, CocoFile, is_side
from mmpanoptic.utils.segmentations import check_segmentation

Points = list[tuple[float, float]]


class PolygonFile(CocoFile):
    """The content of a polygon file: ``imgWidth``, ``imgHeight`` and ``objects``."""

    def size(self) -> tuple[int, int]:
        """Return width and height.

        Raises:
            PanopticFormatError: If they or the objects are missing or wrong.
        """
        fields = ("imgWidth", "imgHeight", "objects")
        if self.has_fields(self.content, fields, "the polygon file"):
            size = (self.content["imgWidth"], self.content["imgHeight"])
            if all(map(is_side, size)):
                return size
            detail = f"imgWidth and imgHeight must be whole numbers, 1..{MAX_SIDE}, got {size}"
            self.add("bad_field", detail)
        self.raise_problems()
        raise AssertionError  # there was a problem

    def objects(self) -> Iterator[tuple[str, str, Points]]:
        """Yield place, label and polygon of the objects that are not deleted.

        A polygon may have one or two points; callers know what that means.
        """
        for position, entry in enumerate(self.entries("objects")):
            place = f"objects[{position}]"
            if isinstance(entry, Mapping) and entry.get("deleted"):
                continue
            if not self.has_fields(entry, ("label", "polygon"), place):
                continue
            label = entry["label"]
            if not isinstance(label, str):
                self.add("bad_field", f"{place}.label must be text, got {label!r}")
                continue
            points = self._points(entry["polygon"], f"{place} ({label})")
            if points is not None:
                yield place, label, points

    def _points(self, points: Any, place: str) -> Points | None:
        few = isinstance(points, list) and 0 < len(points) < 3
        padded = [*points, *[points[-1]] * (3 - len(points))] if few else points
        try:
            flat = check_segmentation([padded])[0]  # type: ignore[index]  # polygons stay polygons
        except ValueError as error:
            self.add("bad_field", f"{place}: polygon {error}")
            return None
        pairs = list(zip(*[iter(map(float, flat))] * 2, strict=True))
        return pairs[: len(points)]


def count_problem(name: str, count: int, factor: int, first: int) -> tuple[str, str]:
    """Describe a class with more instances than ``class * factor + number`` can tell apart.

    Args:
        name: Of the class.
        count: Of its instances.
        factor: Of the ids.
        first: Id of the class.

    Returns:
        tuple[str, str]: Kind and detail of the problem.
    """
    return "too_many_instances", (
        f"{count} instances of {name}; the ids {first} * {factor} + number tell {factor} apart, "
        "more would become another class"
    )
