"""Own data from COCO instance and stuff JSONs, as CVAT, Roboflow and others export them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpanoptic.utils.coco_file import (
    InstanceJson,
    describe_unknown,
    key_of,
    load_json_object,
    place_of,
)
from mmpanoptic.utils.format_errors import FormatProblem, format_error

from .class_list import IGNORED, ClassList
from .label_items import (
    ClassMatcher,
    CocoMask,
    GivenSize,
    ImageFinder,
    ImageLabels,
    LabelItem,
    LabelSet,
)

CROWDS = ("keep", "instances", "ignore")
"""What annotations with ``iscrowd`` 1 become: crowd segments, instances, or void."""


@dataclass(frozen=True)
class CocoOptions:
    """How COCO annotations are taken.

    Attributes:
        crowds (str): Of :data:`CROWDS`.
        ignore (Collection[str]): Categories that are void, by id (as text) or name.
    """

    crowds: str = "keep"
    ignore: Collection[str] = ()


def read_coco_labels(
    paths: Sequence[Path], finder: ImageFinder, classes: ClassList, options: CocoOptions
) -> LabelSet:
    """Read COCO JSONs; labels of one image in several files are put together.

    Images are looked up beside the JSON if that is inside the folder of the images, in that
    folder, and by their name alone.

    Args:
        paths: The JSONs, such as one of instances and one of stuff.
        finder: Finds the images.
        classes: Matched by the categories' names.
        options: How.

    Returns:
        LabelSet: Masks are checked when they are drawn.

    Raises:
        PanopticFormatError: If a file cannot be read or is a panoptic one.
    """
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    known: dict[Any, str] = {}
    for path in paths:
        content = load_json_object(path, packed=True)
        _refuse_panoptic(content, path)
        reader = InstanceJson(content, path, foreign=True, masks=False)
        for found in _read_file(reader, finder, classes, options):
            if found.path in images:
                images[found.path].merge(found)
            else:
                images[found.path] = found
        problems += reader.problems
        known.update(reader.names)
    names = {*known.values(), *(str(key[1]) for key in known)}
    for value in options.ignore:
        if value not in names:  # an option that does nothing
            detail = describe_unknown(value, known, "--ignore-category", "categories")
            problems.append(FormatProblem("unknown_category", detail, str(paths[0])))
    return LabelSet(images, problems)


def _read_file(
    reader: InstanceJson, finder: ImageFinder, classes: ClassList, options: CocoOptions
) -> list[ImageLabels]:
    """Read the images of one JSON; problems are left in the reader."""
    annotations = reader.parse()
    images = _find_images(reader, finder)
    labels = _match_categories(reader, annotations, classes, options)
    for annotation in annotations:
        found = images.get(key_of(annotation["image_id"]))
        label = labels.get(key_of(annotation["category_id"]))
        if found is not None and label is not None:
            _add(found, annotation, label, reader, classes, options)
    for found in images.values():
        found.files.append(Path(reader.file))
    return list(images.values())


def _refuse_panoptic(content: Mapping[str, Any], path: Path) -> None:
    entries = content.get("annotations")
    first = entries[0] if isinstance(entries, list) and entries else None
    if isinstance(first, Mapping) and "segments_info" in first:
        detail = "the file is a panoptic JSON already; train with it, check.py checks it"
        raise format_error("bad_field", detail, path)


def _find_images(reader: InstanceJson, finder: ImageFinder) -> dict[Any, ImageLabels]:
    """Find the files of ``images``; what is missing or named twice is a problem."""
    found: dict[Any, ImageLabels] = {}
    used: dict[Path, Any] = {}
    for position, image in enumerate(reader.entries("images")):
        key = key_of(image.get("id") if isinstance(image, Mapping) else None)
        known: Any = reader.image_index.get(key)
        if known is None or known is not image:  # reported already
            continue
        name, image_id = image["file_name"], key[1]
        what = f"{place_of('images', position, image)}.file_name {name!r}"
        try:
            path = finder.find(name, Path(reader.file).parent)
        except ValueError as error:
            reader.add("bad_field", f"{what}: {error}", image_id)
            continue
        if path is None:
            hint = "; it has a backslash, which separates folders on Windows" * ("\\" in name)
            detail = f"{what}: there is no such image in {finder.folder}{hint}; see --images"
            reader.add("missing_file", detail, image_id)
        elif path in used:
            detail = f"{what} is the file of the image {used[path]!r}, too"
            reader.add("duplicate_image", detail, image_id)
        else:
            used[path] = image_id
            found[key] = ImageLabels(path)
            size = (image.get("height"), image.get("width"))
            if None not in size:
                found[key].sizes.append(GivenSize(size, reader.file, image_id))  # type: ignore[arg-type]
    return found


def _match_categories(
    reader: InstanceJson,
    annotations: Sequence[Mapping[str, Any]],
    classes: ClassList,
    options: CocoOptions,
) -> dict[Any, int]:
    """Find the class of every category that annotations use; unknown ones are problems."""
    matcher = ClassMatcher(classes)
    categories = reader.content.get("categories")
    supercategories = {
        key_of(entry.get("id")): entry.get("supercategory")
        for entry in (categories if isinstance(categories, list) else ())
        if isinstance(entry, Mapping)
    }
    labels: dict[Any, int] = {}
    for annotation in annotations:
        key = key_of(annotation["category_id"])
        name = reader.names[key]
        if str(key[1]) in options.ignore or name in options.ignore:
            labels[key] = IGNORED
            continue
        place = place_of("annotations", annotation["position"], annotation)
        image_id = annotation["image_id"]
        label = matcher.find(name, place, reader.file, image_id, supercategories.get(key))
        if label is not None:
            labels[key] = label
    reader.problems += matcher.problems()
    return labels


def _add(
    found: ImageLabels,
    annotation: Mapping[str, Any],
    label: int,
    reader: InstanceJson,
    classes: ClassList,
    options: CocoOptions,
) -> None:
    """Add an annotation to its image, or note what it is dropped for."""
    image_id, crowd = annotation["image_id"], annotation["iscrowd"]
    place = place_of("annotations", annotation["position"], annotation)
    name = f"annotation {annotation.get('id', annotation['position'])}"
    if label == IGNORED:
        found.dropped.append(("others", "ignored", name))
    elif crowd and options.crowds == "ignore":
        group = "things" if classes.table[label].isthing else "stuff"
        found.dropped.append((group, "no_crowd", name))
    elif "segmentation" not in annotation:
        detail = f"{place} lacks segmentation: a mask is due; draw one, or take the annotation out"
        reader.add("missing_field", detail, image_id)
    else:
        mask = CocoMask(annotation["segmentation"])
        crowd = 0 if options.crowds == "instances" else crowd
        place = f"{place}.segmentation"
        found.items.append(LabelItem(label, (mask,), name, place, reader.file, image_id, crowd))
