"""Labels of images before they are painted: what every source of own labels is turned into."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error
from mmpanoptic.utils.image_files import describe_mismatch, list_images
from mmpanoptic.utils.label_png import read_mask_png
from mmpanoptic.utils.segmentations import check_segmentation, encode, is_outside

from .class_list import ClassList
from .painting import Shape

Size = tuple[int, int]
Code = dict[str, Any]
Fate = tuple[str, str, str]


class Mask(Protocol):
    """One mask of a label, not drawn yet."""

    @property
    def kind(self) -> str:
        """Kind of the problem if it cannot be drawn."""

    def draw(self, size: Size) -> tuple[Code, bool]:
        """Return a run-length code of the image's size ``(H, W)``, and whether it lies outside.

        Raises:
            ValueError: Saying what is wrong with the mask.
        """


@dataclass(frozen=True)
class CocoMask:
    """Polygons or a run-length code as COCO has them, unchecked.

    Attributes:
        segmentation (Any): See :func:`~mmpanoptic.utils.segmentations.check_segmentation`.
        kind (str): Kind of the problem if it cannot be drawn.
    """

    segmentation: Any
    kind: str = "bad_segmentation"

    def draw(self, size: Size) -> tuple[Code, bool]:
        """Check and draw it."""
        segmentation = check_segmentation(self.segmentation, *size)
        return encode(segmentation, *size), is_outside(segmentation, *size)


@dataclass(frozen=True)
class PastedMask:
    """A small mask that belongs somewhere into the image, as labelme writes it.

    Attributes:
        png (str): PNG in base64; what is not 0 belongs to the mask.
        left (int): Column of its first pixel.
        top (int): Row of its first pixel.
        kind (str): Kind of the problem if it cannot be drawn.
    """

    png: str
    left: int
    top: int
    kind: str = "bad_shape"

    def draw(self, size: Size) -> tuple[Code, bool]:
        """Decode and paste it; what is beyond the edges is cut off."""
        try:
            data = np.frombuffer(base64.b64decode(self.png, validate=True), np.uint8)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"the mask is not base64: {error}") from error
        patch = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
        if patch is None:
            raise ValueError("the mask is no PNG")
        mask = np.zeros(size, np.uint8)
        rows, columns = self.top + patch.shape[0], self.left + patch.shape[1]
        outside = rows <= 0 or columns <= 0 or self.top >= size[0] or self.left >= size[1]
        if not outside:
            top, left = max(self.top, 0), max(self.left, 0)
            window = patch[top - self.top : size[0] - self.top, left - self.left :]
            window = window[:, : size[1] - left]
            mask[top : top + window.shape[0], left : left + window.shape[1]] = window > 0
        return _encode(mask), outside


@dataclass(frozen=True)
class MaskFile:
    """A PNG of the image's size; what is not 0 belongs to the mask.

    Attributes:
        path (Path): The file.
        image (Path): Of the image, for messages.
        kind (str): Kind of the problem if it cannot be drawn.
    """

    path: Path
    image: Path
    kind: str = "size_mismatch"

    def draw(self, size: Size) -> tuple[Code, bool]:
        """Read it."""
        mask = read_mask_png(self.path)
        if mask.shape != size:
            detail = describe_mismatch(self.image, size, mask.shape, "the mask")
            raise format_error("size_mismatch", detail, self.path)
        return _encode(mask.astype(np.uint8)), False


def _encode(mask: np.ndarray) -> Code:
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask))


class LabelItem(NamedTuple):
    """One instance or stuff region of an image.

    Attributes:
        label (int): Contiguous label.
        masks (tuple[Mask, ...]): Its parts.
        name (str): Names it in the balance, such as "annotation 17".
        place (str): Where it stands in its file, for messages.
        file (str): That file.
        image_id (Any): Of the image in that file.
        iscrowd (int): 0 or 1.
        score (float): Decides overlaps with the rule ``score``.
    """

    label: int
    masks: tuple[Mask, ...]
    name: str
    place: str
    file: str
    image_id: Any = None
    iscrowd: int = 0
    score: float = 0.0


class GivenSize(NamedTuple):
    """Size of an image as a label file says.

    Attributes:
        size (tuple[int, int]): Height and width.
        file (str): The label file.
        image_id (Any): Of the image in that file.
    """

    size: Size
    file: str
    image_id: Any = None


@dataclass
class ImageLabels:
    """All that is known of an image's labels.

    Attributes:
        path (Path): The image.
        items (list[LabelItem]): To paint.
        files (list[Path]): Label files that the result depends on.
        sizes (list[GivenSize]): What label files say.
        dropped (list[Fate]): What is not painted: group, fate and name.
        maps (tuple[Path, Path | None] | None): Label map and instance map.
    """

    path: Path
    items: list[LabelItem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    sizes: list[GivenSize] = field(default_factory=list)
    dropped: list[Fate] = field(default_factory=list)
    maps: tuple[Path, Path | None] | None = None

    def merge(self, other: ImageLabels) -> None:
        """Add the labels of the same image from another source."""
        self.items += other.items
        self.files += [path for path in other.files if path not in self.files]
        self.sizes += other.sizes
        self.dropped += other.dropped
        if self.maps and other.maps:
            raise ValueError(f"{self.path} has two label maps")
        self.maps = self.maps or other.maps


class LabelSet(NamedTuple):
    """What a source of labels holds.

    Attributes:
        images (dict[Path, ImageLabels]): By path of the image.
        problems (list[FormatProblem]): Nothing is converted if there are any.
        orphans (list[Path]): Label files of images that are not there.
    """

    images: dict[Path, ImageLabels]
    problems: list[FormatProblem]
    orphans: Sequence[Path] = ()


def draw_items(items: Sequence[LabelItem], size: Size) -> tuple[list[Shape], list[FormatProblem]]:
    """Draw the masks of an image as run-length codes.

    Args:
        items: Its labels.
        size: Its ``(H, W)``.

    Returns:
        tuple: Shapes to paint, and the problems of all masks.
    """
    shapes: list[Shape] = []
    problems: list[FormatProblem] = []
    for item in items:
        codes, outside = [], True
        for mask in item.masks:
            try:
                code, beyond = mask.draw(size)
            except PanopticFormatError as error:
                problems += error.problems
            except ValueError as error:
                detail = f"{item.place} {error}"
                problems.append(FormatProblem(mask.kind, detail, item.file, item.image_id))
            else:
                codes.append(code)
                outside = outside and beyond
        if codes:
            code = codes[0] if len(codes) == 1 else _merge(codes)
            shape = Shape(code, item.label, item.iscrowd, item.score, item.name, outside)
            shapes.append(shape)
    return shapes, problems


def _merge(codes: Sequence[Code]) -> Code:
    from pycocotools import mask as coco_mask

    return coco_mask.merge(codes)


class ClassMatcher:
    """Find the classes of labels, and collect the names that are none.

    Args:
        classes: The class list.
    """

    def __init__(self, classes: ClassList) -> None:
        self.classes = classes
        self._unknown: dict[tuple[str, str], list[Any]] = {}

    def find(
        self, name: str, place: str, file: str, image_id: Any = None, supercategory: Any = None
    ) -> int | None:
        """Look a label up.

        Args:
            name: As in the label file.
            place: Where it stands there.
            file: The label file.
            image_id: Of the image there.
            supercategory: Of a COCO category.

        Returns:
            int | None: Contiguous label, ``IGNORED``, or None; then it is remembered.
        """
        label = self.classes.find(name, supercategory)
        if label is None:
            known = self._unknown.setdefault((file, name), [0, place, image_id])
            known[0] += 1
        return label

    def problems(self) -> list[FormatProblem]:
        """Describe the unknown names, each once."""
        found = []
        names = ", ".join(label.name for label in self.classes.table)
        for (file, name), (count, place, image_id) in self._unknown.items():
            twin = next((n for n in self.classes.names if n.lower() == name.lower()), None)
            hint = f" (written {twin!r} there)" if twin else ""
            where = f"{place}" if count == 1 else f"{count} labels, first {place}"
            detail = (
                f"{where}: the class {name!r} is not in {self.classes.path}{hint}, which has: "
                f"{names}"
            )
            found.append(FormatProblem("unknown_class", detail, file, image_id))
        return found


class ImageFinder:
    """Find the images that label files name.

    Args:
        folder: Of the images, searched with sub-folders.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}; --images names that of the images")
        self.folder = folder
        # Lexically: images may be links to elsewhere.
        self._root = Path(os.path.abspath(folder))
        self._by_name: dict[str, list[Path]] | None = None

    def inside(self, path: Path) -> Path | None:
        """Return a file's path through the folder if it is there and inside; else None."""
        absolute = Path(os.path.abspath(path))
        if not absolute.is_relative_to(self._root) or not absolute.is_file():
            return None
        return self.folder / absolute.relative_to(self._root)

    def find(self, name: str, *beside: Path) -> Path | None:
        """Find an image.

        Args:
            name: As written, with slashes or backslashes.
            *beside: Folders in which it may lie, in order; they count where they are inside.

        Returns:
            Path | None: Its path through the folder: by its relative path, else by its name alone
            if one image has it.

        Raises:
            ValueError: If several images have the name.
        """
        plain = name.replace("\\", "/")
        for folder in (*beside, self.folder):
            for candidate in dict.fromkeys((name, plain)):
                found = self.inside(folder / candidate)
                if found is not None:
                    return found
        named = self._named(plain.rpartition("/")[2])
        if len(named) > 1:
            shown = ", ".join(map(str, named[:3]))
            raise ValueError(f"{len(named)} images have the name: {shown}")
        return named[0] if named else None

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for path in list_images(self.folder):
                self._by_name.setdefault(path.name, []).append(path)
        return self._by_name.get(name, [])
