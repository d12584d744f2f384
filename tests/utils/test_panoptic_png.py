from __future__ import annotations

import pickle
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.structures import id2rgb
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.panoptic_png import (
    decode_panoptic_png,
    encode_panoptic_png,
    read_panoptic_png,
    read_panoptic_runs,
)

IDS = np.array([[0, 1, 255, 256], [65535, 65536, (1 << 24) - 1, 77]], np.int32)


def _kind(call, *args) -> str:
    with pytest.raises(PanopticFormatError) as info:
        call(*args)
    return info.value.kind


def test_encoded_ids_are_read_back(tmp_path):
    path = tmp_path / "ünïcode map.png"
    path.write_bytes(encode_panoptic_png(IDS))
    ids = read_panoptic_png(path)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, IDS)


def test_red_is_the_lowest_byte():
    bgr = np.array([[[3, 2, 1]]], np.uint8)
    data = cv2.imencode(".png", bgr)[1].tobytes()
    assert decode_panoptic_png(data).item() == 1 + 2 * 256 + 3 * 65536


def test_alpha_is_dropped():
    bgra = np.array([[[0, 0, 9, 0], [0, 1, 0, 255]]], np.uint8)
    data = cv2.imencode(".png", bgra)[1].tobytes()
    assert decode_panoptic_png(data).tolist() == [[9, 256]]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4, 3), np.uint16),
    ],
    ids=["grey", "grey16", "rgb16"],
)
def test_other_pixel_formats_are_rejected(image):
    assert _kind(decode_panoptic_png, cv2.imencode(".png", image)[1].tobytes()) == "bad_png_mode"


def test_palette_is_rejected(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    path = tmp_path / "palette.png"
    picture = image_module.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    picture.putpalette(list(range(48)))
    picture.save(path)
    assert _kind(read_panoptic_png, path) == "bad_png_mode"


@pytest.mark.parametrize("keep", [0, 7, 20, 33, 50, -16, -12, -1])
def test_cut_off_file_is_reported_with_its_name(tmp_path, keep):
    path = tmp_path / "cut.png"
    rng = np.random.default_rng(0)
    path.write_bytes(encode_panoptic_png(rng.integers(0, 1 << 24, (9, 9)))[:keep])
    with pytest.raises(PanopticFormatError, match=r"cut\.png") as info:
        read_panoptic_png(path)
    assert info.value.kind == "corrupt_png"


def test_flipped_byte_in_the_pixels_is_reported():
    rng = np.random.default_rng(0)
    data = bytearray(encode_panoptic_png(rng.integers(0, 1 << 24, (9, 9))))
    data[len(data) // 2] ^= 0xFF
    assert _kind(decode_panoptic_png, bytes(data)) == "corrupt_png"


def test_bytes_after_the_end_are_harmless():
    np.testing.assert_array_equal(decode_panoptic_png(encode_panoptic_png(IDS) + b"more"), IDS)


def test_missing_file_and_folder(tmp_path):
    assert _kind(read_panoptic_png, tmp_path / "no.png") == "missing_file"
    assert _kind(read_panoptic_png, tmp_path) == "corrupt_png"


def test_ids_beyond_24_bits_cannot_be_encoded():
    with pytest.raises(ValueError, match="segment ids"):
        encode_panoptic_png(np.array([[1 << 24]]))


def test_error_survives_pickling_and_lists_all_problems():
    problems = [
        FormatProblem("zero_id", "id 0 is listed", "a.png", 3, (0,)),
        FormatProblem("missing_file", "not there", "b.png"),
    ]
    error = pickle.loads(pickle.dumps(PanopticFormatError(problems)))  # noqa: S301
    assert error.kinds == ["missing_file", "zero_id"]
    assert error.problems == tuple(problems)
    for text in ("2 problems", "image 3", "a.png", "b.png", "zero_id x 1"):
        assert text in str(error)


def test_long_lists_are_cut_in_the_message_only():
    error = PanopticFormatError([FormatProblem("bad_id", f"number {i}") for i in range(100)])
    assert "and 80 more" in str(error)
    assert "bad_id x 100" in str(error)
    assert len(error.problems) == 100


def test_kinds_are_a_closed_list():
    with pytest.raises(ValueError, match="PROBLEM_KINDS"):
        FormatProblem("odd", "what")


def png_chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def test_a_header_that_promises_more_than_the_file_can_hold_is_refused():
    header = (1 << 20).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    data = b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")
    with pytest.raises(PanopticFormatError, match=r"promises 1048576x1048576 pixels"):
        decode_panoptic_png(data)


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"transparency": (1, 2, 3)}), ("RGBA", {})],
    ids=["plain", "tRNS", "alpha"],
)
def test_what_other_programs_write_is_read_alike(tmp_path, mode, options):
    ids = np.random.default_rng(1).integers(0, 1 << 24, (31, 17)).astype(np.int32)
    picture = Image.fromarray(id2rgb(ids), "RGB").convert(mode)
    picture.save(tmp_path / "a.png", **options)
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / "a.png"), ids)
    runs = read_panoptic_runs(tmp_path / "a.png")
    np.testing.assert_array_equal(np.repeat(runs.value, runs.length).reshape(runs.shape), ids)
