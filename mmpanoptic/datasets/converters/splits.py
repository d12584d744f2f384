"""Dividing own images into training and validation: at random, or by lists."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.utils.coco_file import load_json

from .coco_json import choose_images
from .label_items import ImageFinder

_NAME_COLUMNS = ("file_name", "filename", "image", "image_id", "name", "path")
_SPLIT_COLUMNS = ("split", "subset", "set")


def split_at_random(
    names: Sequence[str], split: str, val: float, seed: int
) -> dict[str, list[str]]:
    """Divide images into a split and ``val``.

    Args:
        names: Of the images.
        split: Of the images that are not taken for validation.
        val: Number of validation images if 1 or more, their share if less, 0 for none.
        seed: For :func:`~mmpanoptic.datasets.converters.coco_json.choose_images`.

    Returns:
        dict[str, list[str]]: Names by split, in their order.

    Raises:
        ValueError: If a part would be empty, or both have one name.
    """
    check_split_name(split)
    if not val:
        return {split: list(names)}
    if not 0 <= val < math.inf:
        raise ValueError(f"--val must be a number of images or a share below 1, got {val}")
    if split == "val":
        raise ValueError(
            "--val puts its images into the split val, which --split names as well; take another "
            "--split, such as train, or leave --val out"
        )
    if val >= 1 and val != round(val):
        raise ValueError(f"--val must be a whole number of images or a share below 1, got {val}")
    count = round(val) if val >= 1 else max(1, round(val * len(names)))
    chosen = set(choose_images(names, count, seed))
    return {
        split: [name for name in names if name not in chosen],
        "val": [name for name in names if name in chosen],
    }


def split_by_lists(
    names: Sequence[str], lists: Mapping[str, Path], split: str, finder: ImageFinder
) -> dict[str, list[str]]:
    """Divide images by lists of names.

    Args:
        names: Of the images: relative paths without extension.
        lists: Files by split: text with a name a line, CSV with a column of names and one named
            split, or JSON (a list of names, lists by split, or a COCO file, of which the images
            count).
        split: Of the images that are in no list.
        finder: Of the images, for names that are not relative paths.

    Returns:
        dict[str, list[str]]: Names by split, in their order.

    Raises:
        ValueError: If a name is of no image or in two splits, or a split is empty.
    """
    check_split_name(split)
    index = _Names(names)
    chosen: dict[str, str] = {}
    for part, path in lists.items():
        check_split_name(part)
        unknown = []
        for word in _read_list(path, part):
            name = index.find(word, _folder(path, finder))
            if name is None:
                unknown.append(word)
            elif chosen.setdefault(name, part) != part:
                raise ValueError(f"{path}: {word} is in the splits {chosen[name]} and {part}")
        if unknown:
            raise ValueError(
                f"{path} names {len(unknown)} images that are not among the labelled ones, such as "
                f"{', '.join(unknown[:3])}"
            )
    parts = {part: [n for n in names if chosen.get(n, split) == part] for part in (split, *lists)}
    parts = {part: members for part, members in parts.items() if members or part in lists}
    empty = [part for part, members in parts.items() if not members]
    if empty:
        raise ValueError(f"the list of the split {empty[0]}, {lists[empty[0]]}, names no image")
    return parts


def check_split_name(name: str) -> None:
    """Refuse what cannot be part of a file name."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"a split must be named by letters, digits, _, - and ., got {name!r}")


def _folder(path: Path, finder: ImageFinder) -> str:
    """Return the list's own folder below that of the images: names may count from there."""
    try:
        return path.resolve().parent.relative_to(finder.folder.resolve()).as_posix()
    except ValueError:
        return ""


class _Names:
    """Images by their relative path and by their name alone, with or without extension."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)
        self.by_stem: dict[str, list[str]] = {}
        for name in names:
            self.by_stem.setdefault(name.rpartition("/")[2], []).append(name)

    def find(self, word: str, folder: str) -> str | None:
        """Return the image that a word of a list means, with or without folder and suffix."""
        plain = word.replace("\\", "/").removeprefix("./")
        bare = plain.rpartition(".")[0] if "." in plain.rpartition("/")[2] else plain
        for name in (plain, bare):
            for candidate in (f"{folder}/{name}" if folder else name, name):
                if candidate in self.names:
                    return candidate
        for name in (plain, bare):
            named = self.by_stem.get(name.rpartition("/")[2], [])
            if len(named) == 1:
                return named[0]
        return None


def _read_list(path: Path, split: str) -> list[str]:
    if path.suffix.lower() == ".json":
        return _read_json_list(path, split)
    if path.suffix.lower() == ".csv":
        return _read_csv_list(path, split)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _read_json_list(path: Path, split: str) -> list[str]:
    content: Any = load_json(path)
    if isinstance(content, Mapping):
        images = content.get("images")
        if isinstance(images, list):
            content = [image.get("file_name") for image in images if isinstance(image, Mapping)]
        else:
            content = content.get(split)
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError(
            f"{path} must hold a list of image names, an object with such a list for {split!r}, or "
            "a COCO file with images"
        )
    return content


def _read_csv_list(path: Path, split: str) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        columns = {name.strip().lower(): name for name in rows.fieldnames or ()}
        name = next((columns[c] for c in _NAME_COLUMNS if c in columns), None)
        part = next((columns[c] for c in _SPLIT_COLUMNS if c in columns), None)
        if name is None:
            raise ValueError(
                f"{path} has no column of image names ({', '.join(_NAME_COLUMNS)}); it has: "
                f"{', '.join(rows.fieldnames or ['none'])}"
            )
        return [row[name] for row in rows if part is None or row[part] == split]
