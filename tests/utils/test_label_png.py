from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.label_png import read_label_png, read_mask_png, write_label_png

LABELS = np.array([[0, 1, 2], [3, 200, 255]], np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_files_survive_writing_and_reading(tmp_path, dtype):
    labels = LABELS.astype(dtype) * (200 if dtype == np.uint16 else 1)
    write_label_png(tmp_path / "new" / "a.png", labels)
    found = read_label_png(tmp_path / "new" / "a.png")
    assert found.dtype == dtype
    assert np.array_equal(found, labels)


def test_palette_files_give_their_indices(tmp_path):
    image = Image.fromarray(LABELS, "P")
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_label_png(tmp_path / "a.png"), LABELS)
    assert np.array_equal(read_mask_png(tmp_path / "a.png"), LABELS != 0)


def test_colours_are_no_labels(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(
        PanopticFormatError, match=r"8 or 16 bits .* got 8-bit RGB .*a\.png"
    ) as info:
        read_label_png(tmp_path / "a.png")
    assert info.value.kind == "bad_label_png"


def test_few_bits_are_refused_since_opencv_stretches_them(tmp_path):
    Image.fromarray(LABELS > 0).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="1-bit grey"):
        read_label_png(tmp_path / "a.png")
    assert np.array_equal(read_mask_png(tmp_path / "a.png"), LABELS > 0)


def test_16_bits_can_be_refused(tmp_path):
    write_label_png(tmp_path / "a.png", LABELS.astype(np.uint16))
    with pytest.raises(ValueError, match="grey PNG of 8 bits"):
        read_label_png(tmp_path / "a.png", max_depth=8)


def test_masks_count_colours_but_not_alpha(tmp_path):
    image = np.zeros((1, 3, 4), np.uint8)
    image[0, 1, 2] = 1
    image[..., 3] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert read_mask_png(tmp_path / "a.png").tolist() == [[False, True, False]]


@pytest.mark.parametrize("read", [read_label_png, read_mask_png])
def test_broken_files_are_named(tmp_path, read):
    path = tmp_path / "a.png"
    with pytest.raises(PanopticFormatError, match=r"missing_file.*a\.png"):
        read(path)
    path.write_bytes(b"GIF89a" + bytes(60))
    with pytest.raises(ValueError, match=r"not a PNG file \(66 bytes\) .*a\.png"):
        read(path)
    write_label_png(path, np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"the PNG is cut off after .*a\.png"):
        read(path)
