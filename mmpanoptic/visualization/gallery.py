"""A folder of pictures to look at: contact sheet and static HTML page."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import atomic_write

from .panoptic_visualizer import write_picture
from .text import put_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
  color: #222; background: #fafafa; }
.classes { display: flex; flex-wrap: wrap; gap: .3rem .9rem; padding: 0; list-style: none; }
.classes i { display: inline-block; width: .9em; height: .9em; margin-right: .35em;
  border-radius: 2px; vertical-align: -.05em; }
figure { margin: 1.5rem 0; padding: .8rem; background: #fff; border: 1px solid #ddd;
  border-radius: 6px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { margin-bottom: .4rem; }
"""


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

    The page is static: it needs no server and nothing from the net, and its links are relative,
    so that the folder can be moved.

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
        figures.append(_figure(entry, f"images/{quote(name)}", width, height))
        if number < sheet_entries:
            thumbnails.append(_thumbnail(entry))
    if not figures:
        raise ValueError("a gallery needs at least one entry")
    write_picture(folder / "sheet.png", make_sheet(thumbnails, columns))
    page = _page(title, table, figures)
    index = folder / "index.html"
    with atomic_write(index) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return index


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


def _figure(entry: GalleryEntry, link: str, width: int, height: int) -> str:
    caption = html.escape(entry.caption)
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f'<a href="{link}"><img src="{link}" alt="{caption}" width="{width}" height="{height}" '
        'loading="lazy"></a></figure>'
    )


def _legend(table: LabelTable) -> str:
    items = "".join(
        f'<li><i style="background:rgb{label.color}"></i>{html.escape(label.name)}'
        f" ({'thing' if label.isthing else 'stuff'})</li>"
        for label in table
    )
    return f'<ul class="classes">{items}</ul>'


def _page(title: str, table: LabelTable | None, figures: Sequence[str]) -> str:
    heading = html.escape(title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{heading}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{heading}</h1>",
        f'<p>{len(figures)} images, <a href="sheet.png">contact sheet</a></p>',
        _legend(table) if table is not None else "",
        *figures,
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"
