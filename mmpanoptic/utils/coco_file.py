"""COCO JSON files: images, categories and references, checked; all problems collected.

One reader for every format that lists ``images``: instance and stuff annotations (here) and
panoptic ones (:mod:`mmpanoptic.datasets.panoptic_json`). Converters, the checker, datasets and
evaluators read through it, so what one of them refuses the others refuse.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import is_file_name, is_inside, read_json
from .format_errors import FormatProblem, PanopticFormatError
from .segmentations import check_segmentation, pack

MAX_SIDE = 1 << 20
"""Sides of the largest images that OpenCV reads."""

MOST_PIXELS = 1 << 30

ImageKey = tuple[type, Any]
"""Type and value of an id, so that 1 and "1" stay apart."""


def load_json_object(
    path: str | os.PathLike[str], hint: str = "", packed: bool = False
) -> dict[str, Any]:
    """Read a JSON file whose top level is an object.

    Args:
        path: The file.
        hint: Where it comes from, for the message if it is missing.
        packed: Keep polygons as arrays of numbers, in a quarter of the memory; see
            :func:`~mmpanoptic.utils.segmentations.pack`.

    Returns:
        dict: Its content.

    Raises:
        PanopticFormatError: Of kind ``missing_file`` or ``corrupt_json``.
    """
    content = load_json(path, hint, packed)
    if not isinstance(content, dict):
        detail = f"the top level must be an object, got {type(content).__name__}"
        raise PanopticFormatError([FormatProblem("corrupt_json", detail, os.fspath(path))])
    return content


def load_json(path: str | os.PathLike[str], hint: str = "", packed: bool = False) -> Any:
    """Read a JSON file; see :func:`load_json_object`."""
    name = os.fspath(path)
    try:
        return read_json(path, _pack if packed else None)
    except OSError as error:
        detail = f"cannot read the annotation file: {error.strerror}"
        if hint and isinstance(error, FileNotFoundError):
            detail += f"; {hint}{_unset_variable(name)}"
        raise PanopticFormatError([FormatProblem("missing_file", detail, name)]) from error
    except ValueError as error:
        raise PanopticFormatError([FormatProblem("corrupt_json", str(error), name)]) from error


def key_of(value: Any) -> ImageKey:
    """Return type and value of an id; of what can be none, the key of None."""
    return (type(value), value) if type(value) in (int, str) else (type(None), None)


def _pack(entry: dict[str, Any]) -> dict[str, Any]:
    if "segmentation" in entry:
        entry["segmentation"] = pack(entry["segmentation"])
    return entry


def _unset_variable(path: str) -> str:
    """Explain a path such as ``/coco/...``, which ``$DATASETS/coco`` is without the variable."""
    parts = Path(path).parts
    if len(parts) < 3 or parts[0] != "/" or Path("/", parts[1]).exists():
        return ""
    return (
        f". There is no folder /{parts[1]}: if it was typed as $VARIABLE/{parts[1]}, the "
        f"variable is not set; ${{VARIABLE:-datasets}}/{parts[1]} falls back to ./datasets"
    )


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_side(value: Any) -> bool:
    """Tell whether a value is a height or width: a whole number of pixels that OpenCV reads."""
    return type(value) is int and 0 < value <= MAX_SIDE


def is_box(value: Any) -> bool:
    """Tell whether a value is a box: ``[x, y, width, height]``, finite numbers."""
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(is_number, value))


def place_of(field: str, position: int, entry: Any, key: str = "id") -> str:
    """Name an entry by its position and, if it has one, its id: ``annotations[3] (id 17)``."""
    text = f"{field}[{position}]"
    if isinstance(entry, Mapping) and key in entry:
        text += f" ({key} {entry[key]!r})"
    return text


class CocoFile:
    """The parts that all COCO JSON files have.

    Args:
        content (Mapping): The parsed file.
        file (str): Its path, for messages.

    Attributes:
        problems (list[FormatProblem]): What was found so far.
        broken_images (set[ImageKey]): Ids of images that are listed, but were reported.
        absent (set[str]): Lists that the file lacks; references into them are not reported.
    """

    def __init__(self, content: Mapping[str, Any], file: str | os.PathLike[str]) -> None:
        self.content = content
        self.file = os.fspath(file)
        self.problems: list[FormatProblem] = []
        self.broken_images: set[ImageKey] = set()
        self.absent: set[str] = set()

    def raise_problems(self) -> None:
        """Raise one error that lists all problems, if there are any."""
        if self.problems:
            raise PanopticFormatError(self.problems)

    def add(self, kind: str, detail: str, image_id: Any = None, ids: Sequence[Any] = ()) -> None:
        """Note a problem."""
        self.problems.append(FormatProblem(kind, detail, self.file, image_id, tuple(ids)))

    def has_fields(
        self, entry: Any, fields: Sequence[str], place: str, image_id: Any = None
    ) -> bool:
        """Check that an entry is an object with some fields."""
        if not isinstance(entry, Mapping):
            self.add("bad_field", f"{place} must be an object, got {entry!r}", image_id)
            return False
        missing = [field for field in fields if field not in entry]
        if missing:
            self.add("missing_field", f"{place} lacks {', '.join(missing)}", image_id)
        return not missing

    def entries(self, field: str) -> list[Any]:
        """Return a list of the file; without it note a problem."""
        value = self.content.get(field)
        if not isinstance(value, list):
            found = "" if value is None else f", but {type(value).__name__}"
            self.add("missing_field", f"the file has no list {field!r}{found}")
            self.absent.add(field)
            return []
        return value

    def check_name(self, name: Any, place: str, image_id: Any) -> bool:
        """Check a relative file name."""
        if not is_file_name(name):
            self.add("bad_field", f"{place} must be a file name, got {name!r}", image_id)
        elif not is_inside(name):
            self.add("unsafe_path", f"{place} {name!r} leads out of its folder", image_id)
        else:
            return True
        return False

    def images(self, sized: bool = True) -> dict[ImageKey, Mapping[str, Any]]:
        """Index ``images`` by type and value of their id.

        Args:
            sized: Height and width are due; without it they are checked where they are given.

        Returns:
            dict: Entries that can be used.
        """
        images: dict[ImageKey, Mapping[str, Any]] = {}
        for position, image in enumerate(self.entries("images")):
            place = place_of("images", position, image)
            key = key_of(image.get("id") if isinstance(image, Mapping) else None)
            if not self._check_image(image, place, sized):
                self.broken_images.add(key)
            elif key in images:
                names = f"{images[key]['file_name']!r} and {image['file_name']!r}"
                detail = f"{place}: the id {key[1]!r} is used twice, by {names}"
                self.add("duplicate_image", detail, key[1])
            else:
                images[key] = image
        return images

    def _check_image(self, image: Any, place: str, sized: bool) -> bool:
        fields = ("id", "file_name", "height", "width") if sized else ("id", "file_name")
        image_id = image.get("id") if isinstance(image, Mapping) else None
        if not self.has_fields(image, fields, place, image_id):
            return False
        if type(image_id) not in (int, str):
            detail = f"{place}.id must be a whole number or text, got {image_id!r}"
            self.add("bad_field", detail)
            return False
        usable = self.check_name(image["file_name"], f"{place}.file_name", image_id)
        for field in ("height", "width"):
            usable = self._check_side(image, field, place, sized) and usable
        pixels = (image.get("height") or 0) * (image.get("width") or 0) if usable else 0
        if pixels > MOST_PIXELS:
            detail = f"{place} has {pixels} pixels; OpenCV reads images of up to {MOST_PIXELS}"
            self.add("bad_field", detail, image_id)
        return usable and pixels <= MOST_PIXELS

    def _check_side(self, image: Mapping[str, Any], field: str, place: str, due: bool) -> bool:
        side = image.get(field)
        if is_side(side) or (side is None and not due):
            return True
        detail = f"{place}.{field} must be a whole number of pixels, 1..{MAX_SIDE}, got {side!r}"
        self.add("bad_field", detail, image["id"])
        return False


class InstanceJson(CocoFile):
    """The content of an instance or stuff JSON (``annotations[].segmentation``).

    Args:
        content (Mapping): The parsed file.
        file (str): Its path, for messages.
        foreign (bool): The file is an export that will be converted: accept ids that are text or
            absent, images without a size, a null ``iscrowd`` (0) and backslashes in file names.
        masks (bool): Masks are due, and checked; False leaves them alone.

    Attributes:
        image_index (dict): Usable ``images`` by :data:`ImageKey`; filled by :meth:`parse`.
        names (dict): Category names by :data:`ImageKey` of the id; likewise.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        file: str | os.PathLike[str],
        foreign: bool = False,
        masks: bool = True,
    ) -> None:
        super().__init__(content, file)
        self.foreign = foreign
        self.masks = masks
        self.image_index: dict[ImageKey, Mapping[str, Any]] = {}
        self.names: dict[ImageKey, str] = {}

    def parse(self) -> list[dict[str, Any]]:
        """List the annotations that can be used, and collect the problems.

        Returns:
            list[dict]: As in the file, with ``segmentation`` as
            :func:`~mmpanoptic.utils.segmentations.check_segmentation` returns it, ``iscrowd`` 0 or
            1, and ``position`` (in ``annotations``).
        """
        self.image_index = self.images(sized=not self.foreign)
        self.names = self._categories()
        return list(check_annotations(self, self.entries("annotations")))

    def annotations(self) -> list[dict[str, Any]]:
        """List the annotations; see :meth:`parse`.

        Raises:
            PanopticFormatError: Listing all problems of the file.
        """
        found = self.parse()
        self.raise_problems()
        return found

    def _categories(self) -> dict[ImageKey, str]:
        names: dict[ImageKey, str] = {}
        kinds = (int, str) if self.foreign else (int,)
        for position, category in enumerate(self.entries("categories")):
            place = place_of("categories", position, category)
            if not self.has_fields(category, ("id", "name"), place):
                continue
            number, name = category["id"], category["name"]
            if type(number) not in kinds:
                self.add("bad_field", f"{place}.id must be a whole number, got {number!r}")
            elif not isinstance(name, str) or not name:
                self.add("bad_field", f"{place}.name must be text, got {name!r}")
            elif (type(number), number) in names:
                pair = f"{names[type(number), number]!r} and {name!r}"
                detail = f"{place}: the id {number!r} is used twice, by {pair}"
                self.add("duplicate_category", detail)
            else:
                names[type(number), number] = name
        return names


def check_annotations(
    reader: InstanceJson, entries: Sequence[Any], what: str = "annotations"
) -> Iterator[dict[str, Any]]:
    """Check annotations against the images and categories of a reader.

    Args:
        reader: Has both; takes the problems.
        entries: As in a JSON.
        what: How messages call an entry.

    Yields:
        dict: See :meth:`InstanceJson.parse`.
    """
    seen: set[Any] = set()
    for position, entry in enumerate(entries):
        place = place_of(what, position, entry)
        image_id = entry.get("image_id") if isinstance(entry, Mapping) else None
        image_id = image_id if type(image_id) in (int, str) else None
        before = len(reader.problems)
        fields = (
            ("image_id", "category_id") if reader.foreign else ("id", "image_id", "category_id")
        )
        if not reader.has_fields(entry, fields, place, image_id):
            continue
        image = _check_references(reader, entry, place)
        _check_number(reader, entry, place, seen)
        crowd = _check_crowd(reader, entry, place)
        checked = {**entry, "iscrowd": crowd, "position": position}
        if reader.masks:
            size = (image.get("height"), image.get("width")) if image else (None, None)
            try:
                if "segmentation" not in entry:
                    detail = f"{place} lacks segmentation: a mask is due; draw one, or take the "
                    reader.add("missing_field", f"{detail}annotation out of the file", image_id)
                    continue
                checked["segmentation"] = check_segmentation(entry["segmentation"], *size)
            except ValueError as error:
                reader.add("bad_segmentation", f"{place}.segmentation {error}", image_id)
        known = image is not None and key_of(entry["category_id"]) in reader.names
        if known and len(reader.problems) == before:
            yield checked


def _check_references(
    reader: InstanceJson, entry: Mapping[str, Any], place: str
) -> Mapping[str, Any] | None:
    """Check that an annotation's image and category exist; return the image."""
    image_id, category = entry["image_id"], entry["category_id"]
    image = reader.image_index.get(key_of(image_id))
    known = "images" in reader.absent or key_of(image_id) in reader.broken_images
    if image is None and not known:
        detail = describe_unknown(image_id, reader.image_index, f"{place}.image_id", "images")
        reader.add("missing_image", detail, image_id if type(image_id) in (int, str) else None)
    if key_of(category) not in reader.names and "categories" not in reader.absent:
        detail = describe_unknown(category, reader.names, f"{place}.category_id", "categories")
        reader.add("unknown_category", detail, image_id)
    return image


def _check_number(
    reader: InstanceJson, entry: Mapping[str, Any], place: str, seen: set[Any]
) -> None:
    """Check an annotation's own id; exports are not held to it."""
    if reader.foreign:
        return
    number = entry["id"]
    if type(number) is not int or number < 0:
        detail = f"{place}.id must be a whole number from 1 on, got {number!r}"
        reader.add("bad_id", detail, entry["image_id"])
    elif number in seen:
        detail = f"{place}: the id {number} is used twice"
        reader.add("duplicate_annotation", detail, entry["image_id"])
    else:
        seen.add(number)


def _check_crowd(reader: InstanceJson, entry: Mapping[str, Any], place: str) -> int:
    crowd = entry.get("iscrowd", 0)
    if crowd is None and reader.foreign:
        return 0
    if crowd not in (0, 1) or isinstance(crowd, float):
        detail = f"{place}.iscrowd must be 0 or 1, got {crowd!r}"
        reader.add("bad_field", detail, entry["image_id"])
        return 0
    return int(crowd)


def describe_unknown(value: Any, known: Mapping[ImageKey, Any], place: str, what: str) -> str:
    """Say that a reference leads nowhere; and if one of another type would not, that.

    Args:
        value: The reference.
        known: By :data:`ImageKey`.
        place: Where it stands.
        what: The list that it should be in.
    """
    detail = f"{place} {value!r} is not among the {what}"
    twin = next((key[1] for key in known if str(key[1]) == str(value)), None)
    if twin is not None:
        return f"{detail}, but {twin!r} is: the types differ (number and text)"
    if not known:
        return f"{detail}, of which there are none"
    shown = ", ".join(
        f"{key[1]!r} ({entry})" if isinstance(entry, str) else repr(key[1])
        for key, entry in list(known.items())[:10]
    )
    return f"{detail}: {shown}{', ...' if len(known) > 10 else ''}"
