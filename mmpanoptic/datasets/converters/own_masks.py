"""Own data from mask folders: one PNG per instance, as the Data Science Bowl of 2018 has them."""

from __future__ import annotations

from pathlib import Path

from mmpanoptic.utils.format_errors import FormatProblem, format_error
from mmpanoptic.utils.image_files import IMAGE_SUFFIXES, list_files

from .class_list import IGNORED, ClassList
from .label_items import ClassMatcher, ImageFinder, ImageLabels, LabelItem, LabelSet, MaskFile

MASK_FOLDER = "masks"


def read_mask_labels(root: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read mask folders.

    The masks of an image are ``<root>/NAME/masks/*.png``, or ``<root>/NAME/masks/CLASS/*.png``.
    The image is the only one in ``<root>/NAME/images/``, or ``<folder of the images>/NAME.*``.

    Args:
        root: Folder, searched with sub-folders for folders named ``masks``.
        finder: Finds the images.
        classes: Masks without a folder of their class are of the only thing class.

    Returns:
        LabelSet: Masks are read when they are drawn.

    Raises:
        PanopticFormatError: If there is no mask folder.
    """
    folders = sorted(path for path in root.rglob(MASK_FOLDER) if path.is_dir())
    folders = [path for path in folders if not _is_hidden(path.relative_to(root))]
    if not folders:
        detail = f"no folder NAME/{MASK_FOLDER}/ with PNGs is in it"
        raise format_error("missing_file", detail, root)
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    matcher = ClassMatcher(classes)
    for folder in folders:
        try:
            image = _find_image(folder.parent, root, finder)
        except ValueError as error:
            problems.append(FormatProblem("missing_file", str(error), str(folder.parent)))
            continue
        if image in images:
            problems.append(FormatProblem("duplicate_image", f"of the image {image}", str(folder)))
            continue
        images[image] = _read_folder(folder, image, classes, matcher, problems)
    return LabelSet(images, problems + matcher.problems())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _find_image(folder: Path, root: Path, finder: ImageFinder) -> Path:
    beside = folder / "images"
    found = list_files(beside, IMAGE_SUFFIXES) if beside.is_dir() else []
    if len(found) > 1:
        raise ValueError(f"the folder images/ must hold one image, it holds {len(found)}")
    inside = finder.inside(found[0]) if found else None
    if inside is not None:
        return inside
    name = folder.relative_to(root)
    for suffix in sorted(IMAGE_SUFFIXES):
        for ending in (suffix, suffix.upper()):
            path = finder.inside(finder.folder / f"{name}{ending}")
            if path is not None:
                return path
    raise ValueError(
        f"there is no image for these masks: neither images/* in this folder (inside of "
        f"{finder.folder}) nor {finder.folder / name}.*"
    )


def _read_folder(
    folder: Path,
    image: Path,
    classes: ClassList,
    matcher: ClassMatcher,
    problems: list[FormatProblem],
) -> ImageLabels:
    found = ImageLabels(image)
    others = list_files(folder, IMAGE_SUFFIXES - {".png"})
    if others:
        detail = f"masks must be PNG files; {len(others)} are not, such as {others[0].name}"
        problems.append(FormatProblem("bad_label_png", detail, str(folder)))
    for path in list_files(folder, frozenset({".png"})):
        name = path.relative_to(folder).as_posix()
        label = _class_of(name, path, classes, matcher, problems)
        if label == IGNORED:
            found.dropped.append(("others", "ignored", name))
        elif label is not None:
            mask = MaskFile(path, image)
            found.items.append(LabelItem(label, (mask,), f"mask {name}", name, str(path)))
        found.files.append(path)
    return found


def _class_of(
    name: str,
    path: Path,
    classes: ClassList,
    matcher: ClassMatcher,
    problems: list[FormatProblem],
) -> int | None:
    """Find a mask's class: its folder's name, or the only thing class."""
    parent = name.rpartition("/")[0]
    if parent:
        return matcher.find(parent, name, str(path.parent))
    things = classes.table.thing_labels
    if len(things) == 1:
        return things[0]
    detail = (
        f"the class list has {len(things)} thing classes, so masks must lie in folders of their "
        f"class: {MASK_FOLDER}/CLASS/{path.name}"
    )
    if not problems or problems[-1].detail.partition(":")[0] != detail.partition(":")[0]:
        problems.append(FormatProblem("unknown_class", detail, str(path)))
    return None
