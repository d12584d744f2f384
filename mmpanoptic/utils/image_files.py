"""Image files: finding them, naming them, their size without decoding the pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .archives import read_bytes, split_archive_path
from .format_errors import format_error

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_FOREIGN = "__MACOSX"  # what macOS adds to every archive, beside the content
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 0x0112, 256, 257


class ImageSize(NamedTuple):
    """Size of an image as its readers show it.

    Attributes:
        height (int): In pixels, turned as the orientation tag says.
        width (int): In pixels, likewise.
        orientation (int): EXIF or TIFF orientation; 5 to 8 exchange height and width.
    """

    height: int
    width: int
    orientation: int = 1


def list_files(folder: str | os.PathLike[str], suffixes: frozenset[str]) -> list[Path]:
    """List the files of some kinds in a folder and its sub-folders, sorted by path.

    Hidden files, hidden folders (such as ``.ipynb_checkpoints``) and what macOS adds to archives
    are left out.

    Args:
        folder: Where to look.
        suffixes: Extensions in lower case, with the point; files have them in any case.
    """
    root, found = Path(folder), []
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") or part == _FOREIGN for part in parts):
            continue
        if path.suffix.lower() in suffixes and path.is_file():
            found.append(path)
    return sorted(found)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the images in a folder and its sub-folders; see :func:`list_files`.

    Raises:
        ValueError: If there is none.
    """
    found = list_files(folder, IMAGE_SUFFIXES)
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"{folder} holds no images; known suffixes: {known}")
    return found


def image_id_of(name: str) -> int | str:
    """Derive the ``image_id`` of an image from its name.

    One rule for what own data get and what predictions of a folder get, so that the two meet.

    Args:
        name: Relative path without extension, with ``/``.

    Returns:
        int | str: A number for names of digits alone, as COCO's images have; else the name.
    """
    return int(name) if name.isascii() and name.isdigit() else name


def unique_image_ids(names: Sequence[str]) -> dict[str, int | str]:
    """Derive ids that differ: of ``1`` and ``01`` the second one keeps its name.

    Args:
        names: In order.

    Returns:
        dict: Ids by name.
    """
    ids: dict[str, int | str] = {}
    used: set[int | str] = set()
    for name in names:
        image_id = image_id_of(name)
        ids[name] = name if image_id in used else image_id
        used.add(ids[name])
    return ids


def read_image_size(path: str | os.PathLike[str]) -> ImageSize:
    """Read the size of an image from its header.

    Args:
        path: The file; it may lie in a zip archive.

    Raises:
        PanopticFormatError: If the file is missing or no image.
    """
    from PIL import Image

    try:
        source = path if split_archive_path(path) is None else io.BytesIO(read_bytes(path))
        with Image.open(source) as image:
            width, height = image.size
            orientation = image.getexif().get(_ORIENTATION, 1)
            if image.format == "TIFF":  # Pillow turns these itself, depending on its version
                tags = image.tag_v2  # type: ignore[attr-defined]
                width, height = int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT])
    except FileNotFoundError as error:
        detail = f"cannot read the image: {error.strerror}"
        raise format_error("missing_file", detail, path) from error
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise format_error("corrupt_image", f"not a readable image: {error}", path) from error
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    return ImageSize(height, width, orientation)


def describe_mismatch(
    path: str | os.PathLike[str], size: tuple[int, int], expected: tuple[int, int], whose: str
) -> str:
    """Say that an annotation is for an image of another size, and why.

    Args:
        path: The image.
        size: Its ``(H, W)``.
        expected: ``(H, W)`` of the annotation.
        whose: What says so, such as "the JSON".

    Returns:
        str: Both sizes; and the orientation tag, if that is the cause.
    """
    text = (
        f"the image is {size[1]} x {size[0]} (width x height), {whose} says "
        f"{expected[1]} x {expected[0]}"
    )
    if tuple(expected) != (size[1], size[0]) or size[0] == size[1]:
        return text
    try:
        orientation = read_image_size(path).orientation
    except ValueError:
        return text
    if orientation in (5, 6, 7, 8):
        return (
            f"{text}: the image's EXIF orientation {orientation} turns it, the annotation was made "
            "on the pixels as stored; turn the pixels and drop the tag (for example with "
            "'mogrify -auto-orient'), or annotate the turned image"
        )
    return f"{text}: height and width are exchanged"
