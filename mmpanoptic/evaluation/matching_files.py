"""Finding one prediction per image, and comparing sizes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import numpy as np

_MAX_NAMED = 10


def require_same_size(
    truth: np.ndarray, prediction: np.ndarray, truth_name: object, prediction_name: object
) -> None:
    """Refuse maps of different sizes.

    Raises:
        ValueError: If the sizes differ; the message names both.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"{prediction_name} has {prediction.shape[0]} rows and {prediction.shape[1]} columns, "
            f"but {truth_name} has {truth.shape[0]} and {truth.shape[1]}; predict at the size of "
            "the annotation, without padding or resizing"
        )


def list_files(folder: str | os.PathLike[str], suffix: str) -> list[Path]:
    """List the files of a folder and its sub-folders, sorted by path.

    Args:
        folder: Where to look.
        suffix: End of the names.

    Returns:
        list[Path]: At least one.

    Raises:
        FileNotFoundError: If the folder or such files do not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder")
    found = sorted(path for path in root.rglob(f"*{suffix}") if path.is_file())
    if not found:
        raise FileNotFoundError(f"{root} holds no file whose name ends in {suffix}")
    return found


def match_predictions(
    image_ids: Sequence[str],
    files: Iterable[Path],
    suffix: str,
    needed: Sequence[str] | None = None,
) -> Mapping[str, Path]:
    """Find the one prediction of each image.

    A file belongs to the image with the longest id that its name starts with, where the next
    character is neither letter nor digit (``a_10.png`` is no file of ``a_1``).

    Args:
        image_ids: Ids of the ground truth.
        files: Candidates.
        suffix: End of the names, for the message.
        needed: Ids of the images to find. Default: all.

    Returns:
        Mapping[str, Path]: By image id.

    Raises:
        ValueError: If an image has no prediction or several; the message names them.
    """
    by_prefix: dict[str, list[Path]] = {}
    wanted = set(image_ids)
    for path in files:
        image_id = _longest_id(path.name, wanted)
        if image_id is not None:
            by_prefix.setdefault(image_id, []).append(path)
    image_ids = image_ids if needed is None else needed
    missing = [i for i in image_ids if i not in by_prefix]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(image_ids)} images have no prediction named <id>*{suffix}: "
            f"{name_some(missing)}"
        )
    double = [i for i in image_ids if len(by_prefix[i]) > 1]
    if double:
        names = name_some([str(path) for path in by_prefix[double[0]]])
        raise ValueError(
            f"{len(double)} images have several predictions; {double[0]} has {names}. Keep one"
        )
    return {image_id: by_prefix[image_id][0] for image_id in image_ids}


def _longest_id(name: str, ids: Set[str]) -> str | None:
    for end in range(len(name) - 1, 0, -1):
        if not name[end].isalnum() and name[:end] in ids:
            return name[:end]
    return None


def name_some(names: Sequence[str]) -> str:
    """Join the first names, and say how many there are beside them."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
