"""Own data from labelme files, and those of its successors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.utils.coco_file import MAX_SIDE, is_side, load_json
from mmpanoptic.utils.format_errors import FormatProblem
from mmpanoptic.utils.image_files import list_files

from .class_list import IGNORED, ClassList
from .label_items import (
    ClassMatcher,
    CocoMask,
    GivenSize,
    ImageFinder,
    ImageLabels,
    LabelItem,
    LabelSet,
    Mask,
    PastedMask,
)

_CIRCLE_CORNERS = 64
_KINDS = ("polygon", "rectangle", "rotation", "circle", "mask")
_ALIASES = {"rotation": "rotation", "oriented_rectangle": "rotation"}


def read_labelme_labels(
    folders: Sequence[Path], finder: ImageFinder, classes: ClassList
) -> LabelSet:
    """Read labelme files.

    Other JSON files in the folders (no object with ``shapes``) are passed over. Shapes of one label
    and ``group_id`` are one instance. An image is looked up by ``imagePath`` from its labelme
    file, in the folder of the images, at the labelme file's relative place there, and by its name
    alone.

    Args:
        folders: Of the ``*.json``, searched with sub-folders.
        finder: Finds the images.
        classes: The class list.

    Returns:
        LabelSet: Masks are checked when they are drawn.

    Raises:
        PanopticFormatError: If a file cannot be read.
        ValueError: If a folder holds no labelme file.
    """
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    matcher = ClassMatcher(classes)
    for folder in folders:
        count = 0
        for path in list_files(folder, frozenset({".json"})):
            content = load_json(path)
            if not isinstance(content, Mapping) or "shapes" not in content:
                continue
            count += 1
            found = _LabelmeFile(path, content, problems).read(folder, finder, matcher)
            if found is None:
                continue
            if found.path in images:
                detail = f"the image {found.path} has another labelme file: "
                detail += str(images[found.path].files[0])
                problems.append(FormatProblem("duplicate_image", detail, str(path)))
            else:
                images[found.path] = found
        if not count:
            raise ValueError(f"{folder} holds no labelme files (JSON with shapes and imagePath)")
    return LabelSet(images, problems + matcher.problems())


class _LabelmeFile:
    """One file; problems go into a list."""

    def __init__(
        self, path: Path, content: Mapping[str, Any], problems: list[FormatProblem]
    ) -> None:
        self.path = path
        self.content = content
        self.problems = problems

    def add(self, kind: str, detail: str) -> None:
        self.problems.append(FormatProblem(kind, detail, str(self.path)))

    def read(self, folder: Path, finder: ImageFinder, matcher: ClassMatcher) -> ImageLabels | None:
        """Return the labels, or None if the image is not known."""
        image = self._find_image(folder, finder)
        shapes = self.content["shapes"]
        if not isinstance(shapes, list):
            self.add("bad_field", f"shapes must be a list, got {type(shapes).__name__}")
            shapes = []
        sizes = self._given_size()
        items, dropped = self._read_shapes(shapes, matcher)
        if image is None:
            return None
        return ImageLabels(image, items, [self.path], sizes, dropped)

    def _find_image(self, folder: Path, finder: ImageFinder) -> Path | None:
        name = self.content.get("imagePath")
        if not isinstance(name, str) or not name:
            self.add("bad_field", f"imagePath must be the name of the image, got {name!r}")
            return None
        beside = self.path.parent
        relative = finder.folder / beside.relative_to(folder)
        try:
            plain = name.replace("\\", "/").rpartition("/")[2]
            found = finder.find(name, beside, relative) or finder.inside(relative / plain)
        except ValueError as error:
            found = finder.inside(relative / plain)
            if found is None:
                self.add("bad_field", f"imagePath {name!r}: {error}")
                return None
        if found is None:
            places = f"{beside} (the file's folder) and {finder.folder} (--images)"
            detail = f"imagePath {name!r} is not there: looked for it from {places}"
            self.add("missing_file", f"{detail}, and there for its name alone")
        return found

    def _given_size(self) -> list[GivenSize]:
        size = (self.content.get("imageHeight"), self.content.get("imageWidth"))
        if size[0] is None or size[1] is None:
            return []
        if not all(map(is_side, size)):
            detail = f"imageHeight and imageWidth must be whole numbers, 1..{MAX_SIDE}, got {size}"
            self.add("bad_field", detail)
            return []
        return [GivenSize(size, str(self.path))]  # type: ignore[arg-type]

    def _read_shapes(
        self, shapes: Sequence[Any], matcher: ClassMatcher
    ) -> tuple[list[LabelItem], list[tuple[str, str, str]]]:
        groups: dict[Any, tuple[str, int, list[Mask]]] = {}
        dropped = []
        for position, shape in enumerate(shapes):
            place = f"shapes[{position}]"
            if not isinstance(shape, Mapping):
                self.add("bad_shape", f"{place} must be an object, got {shape!r}")
                continue
            name = shape.get("label")
            if not isinstance(name, str) or not name:
                self.add("bad_shape", f"{place}.label must be text, got {name!r}")
                continue
            place = f"{place} ({name})"
            label = matcher.find(name, place, str(self.path))
            if label == IGNORED:
                dropped.append(("others", "ignored", place))
                continue
            try:
                mask = _read_shape(shape)
            except ValueError as error:
                self.add("bad_shape", f"{place}: {error}")
                continue
            if label is not None:
                group = shape.get("group_id")
                key = position if group is None else (name, repr(group))
                groups.setdefault(key, (place, label, []))[2].append(mask)
        items = [
            LabelItem(label, tuple(masks), place, place, str(self.path))
            for place, label, masks in groups.values()
        ]
        return items, dropped


def _read_shape(shape: Mapping[str, Any]) -> Mask:
    """Turn a shape into a mask.

    Raises:
        ValueError: Saying which field is wrong and what it should hold.
    """
    kind = shape.get("shape_type") or "polygon"
    kind = _ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in _KINDS:
        raise ValueError(f"shape_type {kind!r} has no area; known: {', '.join(_KINDS)}")
    points = _points(shape, kind)
    if kind == "mask":
        code = shape.get("mask")
        if not isinstance(code, str):
            raise ValueError(f"mask must be a PNG in base64, got {code!r}")
        return PastedMask(code, round(points[0][0]), round(points[0][1]))
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    elif kind == "circle":
        points = _circle(*points)
    return CocoMask([[float(v) for point in points for v in point]], "bad_shape")


_NUMBERS = {"rectangle": (2, 4), "rotation": (4,), "circle": (2,)}
"""How many points a kind may have."""


def _points(shape: Mapping[str, Any], kind: str) -> list[list[float]]:
    points = shape.get("points")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        text = repr(points)
        text = text if len(text) < 60 else f"{text[:60]}..."
        raise ValueError(f"points must be a list of [x, y], finite numbers in pixels, got {text}")
    allowed = _NUMBERS.get(kind)
    if allowed and len(points) not in allowed:
        numbers = " or ".join(map(str, allowed))
        raise ValueError(f"a {kind} has {numbers} points, got {len(points)}")
    if kind == "mask" and not points:
        raise ValueError("points must hold the upper left corner of the mask")
    if kind == "polygon" and len(points) < 3:
        raise ValueError(f"a polygon needs at least three points, got {len(points)}")
    return points


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(type(v) in (int, float) and math.isfinite(v) for v in point)
    )


def _circle(center: list[float], rim: list[float]) -> list[list[float]]:
    radius = math.dist(center, rim)
    angles = [2 * math.pi * k / _CIRCLE_CORNERS for k in range(_CIRCLE_CORNERS)]
    return [[center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)] for a in angles]
