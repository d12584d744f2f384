"""COCO segmentations: checking them, and one form behind their spellings.

pycocotools trusts its input: a NaN or a coordinate of millions makes it ask for all memory, and a
run-length code that is too short leaves the rest of the mask uninitialised. Nothing reaches it
here that has not been checked.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Polygons = list[list[float]]
Code = dict[str, Any]

_FAR = 10
"""Coordinates may lie this many image lengths outside; what is farther is no mistake of drawing."""


class PackedPolygons(NamedTuple):
    """Polygons as arrays, until they are drawn: a float of Python takes four times the memory.

    Attributes:
        parts (tuple[array, ...]): Of each polygon x, y, x, y, ...
    """

    parts: tuple[array[float], ...]


def pack(value: Any) -> Any:
    """Pack a segmentation if it is a list of lists of numbers; anything else stays as it is."""
    if not isinstance(value, list) or not value:
        return value
    if not all(isinstance(part, list) and part and _is_flat(part) for part in value):
        return value
    try:
        return PackedPolygons(tuple(array("d", part) for part in value))
    except OverflowError:  # a number beyond all floats, which the check will name
        return value


_CODE_FORM = "a run-length code needs size [height, width] and counts"
_POLYGON_FORM = "[[x1, y1, x2, y2, x3, y3, ...], ...]"


def check_segmentation(
    value: Any, height: int | None = None, width: int | None = None
) -> Polygons | Code:
    """Check a segmentation and bring it into COCO's own form.

    Besides that form, what exports hold is understood where the meaning is plain: one flat list of
    numbers, polygons as lists of ``[x, y]`` pairs, and run-length codes inside a list.

    Args:
        value: As read from a JSON.
        height: Of the image; None leaves sizes and places unchecked.
        width: Of the image.

    Returns:
        Polygons of ``x, y, x, y, ...`` in pixels, or a run-length code with ``size`` and
        ``counts`` (text or a list of whole numbers).

    Raises:
        ValueError: Saying what was found and what is allowed.
    """
    if isinstance(value, PackedPolygons):
        value = [part.tolist() for part in value.parts]
    if isinstance(value, Mapping):
        return _check_code(value, height, width)
    if not isinstance(value, list):
        raise ValueError(
            f"is {_short(value)}; polygons {_POLYGON_FORM} or a run-length code are due"
        )
    if not value:
        raise ValueError("is an empty list; at least one polygon is due")
    if all(isinstance(part, Mapping) for part in value):
        codes = [_check_code(part, height, width) for part in value]
        return codes[0] if len(codes) == 1 else _merge_codes(codes)
    return [_check_polygon(polygon, height, width) for polygon in _split_polygons(value)]


def _split_polygons(value: list[Any]) -> list[Any]:
    """Tell one polygon (flat, or of pairs) from several."""
    if all(_is_number(part) for part in value):
        return [value]
    pairs = [isinstance(part, list) and len(part) == 2 for part in value]
    if len(value) >= 3 and all(pairs) and all(_is_number(v) for part in value for v in part):
        return [[v for part in value for v in part]]
    return value


def _check_polygon(polygon: Any, height: int | None, width: int | None) -> list[float]:
    if not isinstance(polygon, list):
        raise ValueError(f"holds {_short(polygon)} where a polygon is due: {_POLYGON_FORM}")
    if polygon and all(isinstance(p, list) and len(p) == 2 for p in polygon):
        polygon = [value for point in polygon for value in point]
    points = np.asarray(polygon) if _is_flat(polygon) else None
    if points is None or points.dtype.kind not in "iuf":
        raise ValueError(f"has the polygon {_short(polygon)}, which is no list of numbers x, y")
    if not np.isfinite(points).all():
        raise ValueError("has a coordinate that is not finite (NaN or infinity)")
    if len(points) % 2:
        raise ValueError(f"has a polygon of {len(points)} numbers; x and y make an even count")
    if len(points) < 6:
        raise ValueError(
            f"has a polygon of {_count(len(points) // 2, 'point')}; it needs at least three points"
        )
    if height and width and np.abs(points).max() > _FAR * max(height, width):
        raise ValueError(
            f"has the coordinate {points[np.abs(points).argmax()]}, far outside the image of "
            f"{width} x {height} pixels (width x height)"
        )
    return polygon


def _is_flat(polygon: list[Any]) -> bool:
    return all(type(value) in (int, float) for value in polygon)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_code(code: Mapping[str, Any], height: int | None, width: int | None) -> Code:
    if "size" not in code or "counts" not in code:
        raise ValueError(
            f"is an object with {', '.join(map(str, code)) or 'nothing'}; {_CODE_FORM}"
        )
    size, counts = code["size"], code["counts"]
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_side, size)):
        raise ValueError(f"has size {_short(size)}; {_CODE_FORM}")
    if height and width and tuple(size) != (height, width):
        swapped = " (height and width are exchanged)" if tuple(size) == (width, height) else ""
        raise ValueError(
            f"is a run-length code of the size {list(size)} (height, width), the image has "
            f"[{height}, {width}]{swapped}"
        )
    lengths = _count_list(counts) if isinstance(counts, list) else count_text(counts)
    if (lengths < 0).any():
        raise ValueError(f"has a negative run length: {int(lengths.min())}")
    total, pixels = int(lengths.sum()), size[0] * size[1]
    if total != pixels:
        raise ValueError(f"has counts that add up to {total}, but the size has {pixels} pixels")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    return {"size": [int(side) for side in size], "counts": counts}


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 20


def _count_list(counts: list[Any]) -> np.ndarray:
    wrong = [value for value in counts if type(value) is not int]
    if wrong:
        raise ValueError(f"has {_short(wrong[0])} among its counts, which are whole numbers")
    if any(abs(value) >= 1 << 32 for value in counts):
        raise ValueError("has a run length of more than 2**32 pixels")
    return np.array(counts, np.int64)


def count_text(counts: Any) -> np.ndarray:
    """Decode the text of a run-length code into run lengths.

    COCO's text has 5 bits a character, a sixth for "more follows", and differences by two.

    Args:
        counts (str | bytes): The text.

    Returns:
        np.ndarray: int64; background and mask in turn, from the background on, by columns.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(counts, str | bytes):
        raise ValueError(f"has counts {_short(counts)}; text or a list of whole numbers is due")
    try:
        data = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        raise ValueError("has counts with characters that no run-length code has") from None
    value = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not len(value):
        return np.zeros(0, np.int64)
    if (value < 0).any() or (value > 63).any():
        raise ValueError("has counts with characters that no run-length code has")
    last = np.flatnonzero((value & 32) == 0)
    if not len(last) or last[-1] != len(value) - 1:
        raise ValueError("has counts that are cut off")
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 6:
        raise ValueError("has a run length of more than 2**32 pixels")
    place = np.arange(len(value)) - np.repeat(first, last - first + 1)
    number = np.add.reduceat((value & 31) << (5 * place), first)
    number -= ((value[last] & 16) != 0) * (np.int64(1) << (5 * (last - first + 1)))
    # From the third on, a number is the difference to the one two places before.
    number[1::2] = np.cumsum(number[1::2])
    number[2::2] = np.cumsum(number[2::2])
    return number


def encode(segmentation: Polygons | Code, height: int, width: int) -> Code:
    """Draw a checked segmentation as a run-length code.

    Args:
        segmentation: From :func:`check_segmentation`.
        height: Of the image.
        width: Of the image.

    Returns:
        dict: ``size`` and ``counts`` as bytes, which pycocotools decodes and measures.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def decode(segmentation: Polygons | Code, height: int, width: int) -> np.ndarray:
    """Draw a checked segmentation.

    Args:
        segmentation: From :func:`check_segmentation`.
        height: Of the image.
        width: Of the image.

    Returns:
        np.ndarray: uint8 ``(H, W)``, 0 or 1.
    """
    from pycocotools import mask as coco_mask

    return coco_mask.decode(encode(segmentation, height, width))


def _merge_codes(codes: Sequence[Code]) -> Code:
    from pycocotools import mask as coco_mask

    size = codes[0]["size"]
    if any(code["size"] != size for code in codes):
        raise ValueError("holds run-length codes of several sizes")
    merged = coco_mask.merge([encode(code, *size) for code in codes])
    return {"size": size, "counts": merged["counts"].decode("ascii")}


def is_outside(segmentation: Polygons | Code, height: int, width: int) -> bool:
    """Tell whether all polygons lie beyond the image's edges."""
    if not isinstance(segmentation, list):
        return False
    for polygon in segmentation:
        x, y = polygon[::2], polygon[1::2]
        if max(x) > 0 and min(x) < width and max(y) > 0 and min(y) < height:
            return False
    return True


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
