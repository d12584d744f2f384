"""A folder of pictures to look at: contact sheet and static HTML page."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmpanoptic.structures import LabelTable

from .pages import write_page
from .panoptic_visualizer import write_picture
from .text import put_text


@dataclass(frozen=True)
class GalleryEntry:
    """One picture of a gallery.

    Attributes:
        name (str): Shown above the picture, for example the image's file name.
        picture (np.ndarray): uint8 RGB ``(H, W, 3)``.
        pq (float | None): Panoptic quality of this image in percent, if it is known.
    """

    name: str
    picture: np.ndarray
    pq: float | None = None

    @property
    def caption(self) -> str:
        """Name and panoptic quality."""
        return self.name if self.pq is None else f"{self.name} - PQ {self.pq:.1f}"


def write_gallery(
    folder: str | os.PathLike[str],
    entries: Iterable[GalleryEntry],
    title: str = "Predictions",
    table: LabelTable | None = None,
    columns: int = 2,
    sheet_entries: int = 12,
) -> Path:
    """Write pictures, a contact sheet of the first ones, and a page that shows them all.

    The page needs no server and nothing from the net, and its links are relative, so that the
    folder can be moved. A click on a picture, or Enter, opens it; arrow keys go on.

    Args:
        folder: Made if missing; files of the same name are replaced.
        entries (Iterable[GalleryEntry]): Taken one after another, never all in memory.
        title (str): Title of the page.
        table (LabelTable | None): Classes for the page's legend.
        columns (int): Columns of the contact sheet.
        sheet_entries (int): Number of entries on the contact sheet.

    Returns:
        Path: ``index.html``; the contact sheet is ``sheet.png`` beside it.

    Raises:
        ValueError: If there are no entries.
    """
    folder = Path(folder)
    figures, thumbnails = [], []
    for number, entry in enumerate(entries):
        name = f"{number:04d}.png"
        write_picture(folder / "images" / name, entry.picture)
        height, width = entry.picture.shape[:2]
        link = f"images/{name}"
        figures.append({"caption": entry.caption, "link": link, "width": width, "height": height})
        if number < sheet_entries:
            thumbnails.append(_thumbnail(entry))
    if not figures:
        raise ValueError("a gallery needs at least one entry")
    write_picture(folder / "sheet.png", make_sheet(thumbnails, columns))
    return write_page(
        folder / "index.html", "gallery.html", title=title, table=table, figures=figures
    )


def make_sheet(pictures: Sequence[np.ndarray], columns: int, gap: int = 12) -> np.ndarray:
    """Arrange pictures on a white sheet, row by row.

    Args:
        pictures: uint8 RGB pictures of any sizes.
        columns (int): Number of columns.
        gap (int): Pixels between two pictures.

    Returns:
        np.ndarray: uint8 RGB.
    """
    columns = min(columns, len(pictures))
    cell_height = max(picture.shape[0] for picture in pictures) + gap
    cell_width = max(picture.shape[1] for picture in pictures) + gap
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * cell_height + gap, columns * cell_width + gap, 3), 255, np.uint8)
    for position, picture in enumerate(pictures):
        row, column = divmod(position, columns)
        top, left = row * cell_height + gap, column * cell_width + gap
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def _thumbnail(entry: GalleryEntry, width: int = 760) -> np.ndarray:
    factor = min(1.0, width / entry.picture.shape[1])
    size = [max(1, round(side * factor)) for side in entry.picture.shape[1::-1]]
    small = cv2.resize(entry.picture, size, interpolation=cv2.INTER_AREA)
    header = np.full((24, small.shape[1], 3), 255, np.uint8)
    put_text(header, entry.caption, (2, 4), 0.5, (0, 0, 0))
    return np.vstack([header, small])
