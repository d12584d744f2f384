"""Own data in YOLO and VOC files, which ``supervision`` reads.

It is an optional part: ``pip install 'mmpanoptic[formats]'``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpanoptic.utils.format_errors import FormatProblem
from mmpanoptic.utils.image_files import IMAGE_SUFFIXES, list_files, list_images

from .class_list import IGNORED, ClassList
from .label_items import (
    ClassMatcher,
    CocoMask,
    ImageFinder,
    ImageLabels,
    LabelItem,
    LabelSet,
)

_BOX_NUMBERS = 5
"""A line of YOLO with so many numbers is a class and a box, without a mask."""


def read_yolo_labels(names: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read YOLO segmentation labels (one polygon a line) through ``supervision``.

    The labels of ``.../images/.../NAME.jpg`` are ``.../labels/.../NAME.txt``, as Ultralytics has
    it; without a folder ``images`` in the path they lie beside the image.

    Args:
        names: The data set's YAML, which names the classes.
        finder: Of the images.
        classes: The class list.

    Returns:
        LabelSet: Masks are drawn already.

    Raises:
        ImportError: If supervision is absent.
        ValueError: If no image has labels.
    """
    pairs = [(image, _yolo_file(image, finder.folder)) for image in list_images(finder.folder)]

    def load(folder: Path) -> Any:
        paths = (folder / "images", folder / "labels", names)
        return _supervision().DetectionDataset.from_yolo(*map(str, paths), force_masks=True)

    def refuse(path: Path) -> str | None:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            if 0 < len(line.split()) <= _BOX_NUMBERS:
                return f"line {number} is a box, without a polygon: {line[:60]!r}"
        return None

    return _read_each(pairs, load, refuse, classes, "labels/*.txt of the images")


def _yolo_file(image: Path, root: Path) -> Path:
    """Find the label file of an image: the last folder ``images`` becomes ``labels``."""
    parts = [root.name, *image.relative_to(root).parts]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return (root.parent / Path(*parts)).with_suffix(".txt")


def read_voc_labels(folders: Sequence[Path], finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read XML files in the format of Pascal VOC, with polygons, through ``supervision``.

    VOC's own masks (SegmentationClass and SegmentationObject) are label and instance maps.

    Args:
        folders: Of the ``*.xml``, searched with sub-folders; named as their images.
        finder: Of the images.
        classes: The class list.

    Returns:
        LabelSet: Masks are drawn already.

    Raises:
        ImportError: If supervision is absent.
        ValueError: If no image has labels.
    """
    pairs = []
    problems: list[FormatProblem] = []
    for folder in folders:
        for path in list_files(folder, frozenset({".xml"})):
            image = _image_of(path.relative_to(folder).with_suffix(""), finder)
            if image is None:
                detail = f"there is no image of this name in {finder.folder}"
                problems.append(FormatProblem("missing_file", detail, str(path)))
            else:
                pairs.append((image, path))

    def load(folder: Path) -> Any:
        paths = (folder / "images", folder / "labels")
        return _supervision().DetectionDataset.from_pascal_voc(*map(str, paths))

    def refuse(path: Path) -> str | None:
        text = path.read_bytes()
        objects, polygons = text.count(b"<object>"), text.count(b"<polygon>")
        if objects > polygons:
            return f"{objects - polygons} of {objects} objects are boxes, without a polygon"
        return None

    where = ", ".join(map(str, folders))
    if problems and not pairs:
        return LabelSet({}, problems)
    found = _read_each(pairs, load, refuse, classes, f"XML files in {where}")
    return LabelSet(found.images, problems + found.problems)


def _image_of(name: Path, finder: ImageFinder) -> Path | None:
    """Find the image of a label file by its relative path, else by its name alone."""
    for suffix in sorted(IMAGE_SUFFIXES):
        for ending in (suffix, suffix.upper()):
            found = finder.find(f"{name.as_posix()}{ending}")
            if found is not None:
                return found
    return None


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            f"YOLO and VOC files are read by supervision, which is absent ({error}); run: "
            "pip install 'mmpanoptic[formats]'"
        ) from error
    return supervision


def _read_each(
    pairs: Sequence[tuple[Path, Path]],
    load: Callable[[Path], Any],
    refuse: Callable[[Path], str | None],
    classes: ClassList,
    where: str,
) -> LabelSet:
    """Read images one by one, so that the masks of one alone are in memory.

    Args:
        pairs: Image and label file; images without one are left out.
        load: Makes supervision's data set from a folder with ``images`` and ``labels``.
        refuse: Says what is wrong with a label file before it is read.
        classes: The class list.
        where: Named if there is none.
    """
    matcher = ClassMatcher(classes)
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    for image, path in pairs:
        if not path.is_file():
            continue
        found = images.setdefault(image, ImageLabels(image))
        found.files.append(path)
        wrong = refuse(path)
        if wrong is not None:
            problems.append(FormatProblem("bad_segmentation", wrong, str(path)))
            continue
        try:
            with _single(image, path) as folder:
                dataset = load(folder)
                (_, _, detections) = next(iter(dataset))
                names = dataset.classes
        except (ValueError, IndexError, KeyError, SyntaxError) as error:
            problems.append(FormatProblem("bad_field", f"supervision: {error}", str(path)))
            continue
        _add_detections(found, detections, names, path, matcher)
    if not images:
        raise ValueError(f"there are no {where}")
    return LabelSet(images, problems + matcher.problems())


@contextmanager
def _single(image: Path, label: Path) -> Iterator[Path]:
    """Make a data set of one image, which supervision reads by folders."""
    with tempfile.TemporaryDirectory(prefix="mmpanoptic-") as name:
        folder = Path(name)
        for kind, path in (("images", image), ("labels", label)):
            (folder / kind).mkdir()
            target = folder / kind / f"image{path.suffix.lower()}"
            try:
                target.symlink_to(path.resolve())
            except OSError:  # Windows without the right to make links
                shutil.copyfile(path, target)
        yield folder


def _add_detections(
    found: ImageLabels, detections: Any, names: Sequence[str], path: Path, matcher: ClassMatcher
) -> None:
    from pycocotools import mask as coco_mask

    masks = detections.mask if detections.mask is not None else ()
    for number, (mask, kind) in enumerate(zip(masks, detections.class_id, strict=True), 1):
        place = f"object {number}"
        label = matcher.find(str(names[int(kind)]), place, str(path))
        if label == IGNORED:
            found.dropped.append(("others", "ignored", place))
        elif label is not None:
            code = coco_mask.encode(mask.astype("uint8", order="F"))
            code = {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}
            found.items.append(LabelItem(label, (CocoMask(code),), place, place, str(path)))
