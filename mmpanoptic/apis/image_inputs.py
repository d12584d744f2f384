"""What the inferencer takes: files, folders, arrays, lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.utils.image_files import list_images

ImageInput = str | os.PathLike[str] | np.ndarray


@dataclass(frozen=True)
class ImageSource:
    """One image to segment.

    Attributes:
        name (str): Unique among the inputs of a call; may contain folders.
        path (str | None): Its file.
        image (np.ndarray | None): uint8 BGR, ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.
    """

    name: str
    path: str | None = None
    image: np.ndarray | None = None

    def to_sample(self) -> dict[str, Any]:
        """Return what the test pipeline starts with."""
        return {"img": self.image, "img_path": self.path, "img_id": self.name}


def iter_sources(inputs: ImageInput | Sequence[ImageInput]) -> Iterator[ImageSource]:
    """Turn any input into single images with unique names.

    Args:
        inputs: A file, a folder, an array, or a sequence of them.

    Yields:
        ImageSource: In order; of a folder, sorted by path.

    Raises:
        FileNotFoundError: If a path is not there.
        TypeError: If an input is something else.
        ValueError: If a folder holds no image.
    """
    used: set[str] = set()
    several = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    for item in inputs if several else [inputs]:  # type: ignore[union-attr]
        for name, path, image in _expand(item):
            yield ImageSource(_unique(name, used), path, image)


def _expand(item: Any) -> Iterator[tuple[str, str | None, np.ndarray | None]]:
    if isinstance(item, np.ndarray):
        yield "image", None, item
        return
    if not isinstance(item, str | os.PathLike):
        raise TypeError(
            "expected an image as path, as folder or as uint8 array (H, W, 3) in BGR order, or a "
            f"list of them, got {type(item).__name__}"
        )
    path = Path(item).expanduser()
    if path.is_dir():
        for file in list_images(path):
            yield file.relative_to(path).with_suffix("").as_posix(), str(file), None
    elif path.is_file():
        yield path.stem, str(path), None
    else:
        raise FileNotFoundError(f"there is no image or folder {str(item)!r}")


def _unique(name: str, used: set[str]) -> str:
    """Number names that were used before: ``a``, ``a_2``, ``a_3``."""
    candidate, number = name, 1
    while candidate in used:
        number += 1
        candidate = f"{name}_{number}"
    used.add(candidate)
    return candidate
