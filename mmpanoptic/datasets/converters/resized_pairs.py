"""An image and its map of segments, brought to one size."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from mmpanoptic.utils.archives import read_bytes
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image
from mmpanoptic.utils.image_files import describe_mismatch, read_image_size
from mmpanoptic.utils.jobs import write_file

Size = tuple[int, int]
"""Height and width in pixels."""


def resize_ids(ids: np.ndarray, size: Size) -> np.ndarray:
    """Resize a map by nearest neighbour: each new pixel takes the value at its centre.

    Args:
        ids (np.ndarray): Integer map ``(H, W)``.
        size: New height and width.

    Returns:
        np.ndarray: Map of the new size and the same type.
    """
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(size, ids.shape, strict=True)
    )
    return ids[rows[:, None], columns]


def write_resized_image(source: str | os.PathLike[str], target: Path, size: Size) -> None:
    """Write a copy of an image in another size (bilinear) as PNG, whole or not at all.

    Raises:
        PanopticFormatError: If the image cannot be read.
    """
    try:
        image = decode_image(read_bytes(source))
    except (OSError, ImageDamageError) as error:
        raise format_error("corrupt_image", f"cannot read the image: {error}", source) from error
    height, width = size
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    done, data = cv2.imencode(".png", resized)
    if not done:
        raise format_error("bad_field", f"OpenCV cannot encode an image of size {size}", target)
    write_file(target, data.tobytes())


def check_same_size(image: Path, ids: np.ndarray, annotation: Path) -> None:
    """Refuse a map whose image has another size.

    Raises:
        PanopticFormatError: If they differ; the message tells how to make them alike.
    """
    found = read_image_size(image)[:2]
    if found != ids.shape:
        detail = describe_mismatch(image, found, ids.shape, "the annotation")
        detail += f" ({image}); --size HEIGHT WIDTH brings both to one size"
        raise format_error("size_mismatch", detail, annotation)
