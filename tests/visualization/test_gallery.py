from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from mmpanoptic.structures import LabelTable
from mmpanoptic.visualization import GalleryEntry, write_gallery
from mmpanoptic.visualization.gallery import make_sheet

TABLE = LabelTable.from_categories([{"id": 1, "name": "<b>car</b>", "isthing": 1}])


def picture(value, height=40, width=60):
    return np.full((height, width, 3), value, np.uint8)


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v != "data:,"]


def test_page_links_pictures_that_exist_and_nothing_else(tmp_path):
    folder = tmp_path / "my gallery"
    entries = [GalleryEntry(f"{k}.jpg", picture(40 * k), pq=10.0 * k) for k in range(3)]
    index = write_gallery(folder, iter(entries), table=TABLE)
    page = Links()
    page.feed(index.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 3 + 2  # and those of the viewer, empty yet
    assert set(page.links) == {"sheet.png", *(f"images/{k:04d}.png" for k in range(3))}
    for link in page.links:
        assert cv2.imread(str(folder / link)) is not None
    assert (cv2.imread(str(folder / "images" / "0002.png")) == 80).all()


def test_texts_are_escaped(tmp_path):
    entry = GalleryEntry('<script>alert(1)</script>".jpg', picture(0))
    text = write_gallery(tmp_path, [entry], title="a < b", table=TABLE).read_text()
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "a &lt; b" in text


def test_quality_is_shown_where_it_is_known(tmp_path):
    entries = [GalleryEntry("a", picture(0), pq=61.24), GalleryEntry("b", picture(0))]
    text = write_gallery(tmp_path, entries).read_text()
    assert "PQ 61.2" in text
    assert text.count("PQ") == 2 * 1  # caption and alternative text of one entry


def test_sheet_holds_the_first_entries(tmp_path):
    entries = [GalleryEntry(str(k), picture(50 + k)) for k in range(9)]
    write_gallery(tmp_path, entries, columns=2, sheet_entries=4)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    shown = set(np.unique(sheet))
    assert {50, 51, 52, 53} <= shown
    assert (sheet == 54).sum() < 40 * 60


def test_sheet_takes_pictures_of_different_sizes():
    sheet = make_sheet([picture(1, 10, 30), picture(2, 20, 10), picture(3)], columns=2)
    assert all((sheet == k).all(axis=2).sum() == n for k, n in ((1, 300), (2, 200), (3, 2400)))


def test_an_empty_gallery_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_gallery(tmp_path, [])
