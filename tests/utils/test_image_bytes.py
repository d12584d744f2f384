"""Damaged files are refused, whole ones have OpenCV's pixels."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image, read_size

BOTH = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
AS_STORED = BOTH | cv2.IMREAD_IGNORE_ORIENTATION


def picture(height=61, width=83):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 9, 3), np.uint8)
    noise = rng.integers(-20, 20, (height, width, 3))
    return np.clip(cv2.resize(coarse, (width, height)) + noise, 0, 255).astype(np.uint8)


def pack(image=None, kind="JPEG", **options):
    buffer = io.BytesIO()
    image = picture() if image is None else image
    quality = {"quality": 92} if kind in ("JPEG", "WEBP") else {}
    Image.fromarray(image).save(buffer, kind, **quality, **options)
    return buffer.getvalue()


def by_opencv(data, flags=BOTH):
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


KINDS = [
    {},
    {"subsampling": 0},
    {"subsampling": 1},
    {"progressive": True},
    {"optimize": True, "progressive": True, "subsampling": 0},
    {"restart_marker_blocks": 2},
    {"keep_rgb": True},
    {"comment": b"\xff\xd9 no end"},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("size", [(61, 83), (1, 1), (64, 64), (7, 200)])
def test_whole_jpegs_have_the_pixels_of_opencv(options, size):
    data = pack(picture(*size), **options)
    assert np.array_equal(decode_image(data, BOTH), by_opencv(data))
    assert read_size(data) == size


@pytest.mark.parametrize("sampling", ["411", "420", "422", "440", "444"])
def test_every_sampling_of_colours_has_the_pixels_of_opencv(sampling):
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    data = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])[1].tobytes()
    assert np.array_equal(decode_image(data), by_opencv(data, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_opencv(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = pack(exif=exif)
    assert np.array_equal(decode_image(data, BOTH), by_opencv(data))
    assert np.array_equal(decode_image(data, AS_STORED), by_opencv(data, AS_STORED))
    assert read_size(data) == (61, 83)


def test_other_kinds_are_decoded_by_opencv():
    grey, rgba = picture()[..., 0], np.dstack([picture(), picture()[..., :1]])
    cmyk = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(cmyk, "JPEG")
    for data in (
        pack(grey),
        pack(grey, "PNG"),
        pack(rgba, "PNG"),
        pack(kind="WEBP"),
        pack(kind="BMP"),
        pack(kind="TIFF"),
        cmyk.getvalue(),
        cv2.imencode(".png", np.full((9, 8), 500, np.uint16))[1].tobytes(),
        cv2.imencode(".tiff", np.full((9, 8, 3), 0.5, np.float32))[1].tobytes(),
    ):
        assert np.array_equal(decode_image(data, BOTH), by_opencv(data))


@pytest.mark.parametrize("tail", [b"", b"\0" * 9000, b"\xff\xd8 another"])
@pytest.mark.parametrize("before_the_end", [b"", b"\0\0\0", b"\xff\xff"])
def test_odd_but_harmless_endings_are_accepted(before_the_end, tail):
    whole = pack()
    data = whole[:-2] + before_the_end + whole[-2:] + tail
    assert np.array_equal(decode_image(data), decode_image(whole))


def zeroed(data, share):
    start = int(len(data) * share)
    return data[:start] + bytes(300) + data[start + 300 :]


def without(data, share):
    start = int(len(data) * share)
    return data[:start] + data[start + 300 :]


def ended_early(data, share):
    return data[: int(len(data) * share)] + b"\xff\xd9"


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("spoil", [zeroed, without, ended_early])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_damage_in_the_middle_of_a_jpeg_is_found(options, spoil, share):
    if options.get("progressive") and spoil is without and share > 0.5:
        pytest.skip("in a refining scan any bytes are a valid code: no decoder can tell")
    data = spoil(pack(picture(256, 384), **options), share)
    assert by_opencv(data) is not None  # which is why this is no matter of OpenCV
    with pytest.raises(ImageDamageError, match="damaged"):
        decode_image(data, BOTH)


def test_a_cut_file_with_the_end_mark_of_a_thumbnail_is_found():
    whole, thumbnail = pack(picture(256, 384)), pack(picture(20, 30))
    comment = b"\xff\xfe" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with pytest.raises(ImageDamageError):
        decode_image(whole[:20] + comment + whole[20:1500])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_damage_of_other_kinds_is_found(kind):
    data = pack(picture(256, 384), kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    changed = [] if kind == "WEBP" else [zeroed(data, 0.5)]  # which has no checksum
    for spoilt in (*changed, data[: len(data) // 2], b"", data[:30]):
        with pytest.raises(ImageDamageError):
            decode_image(spoilt)


def huge_jpeg():
    data = bytearray(pack())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


def huge_png():
    data = bytearray(pack(kind="PNG"))
    data[16:24] = struct.pack(">II", 60000, 60000)
    return bytes(data)


@pytest.mark.parametrize("data", [huge_jpeg(), huge_png()], ids=["jpeg", "png"])
def test_headers_that_promise_too_much_make_no_room(data):
    with pytest.raises(ImageDamageError, match="the header promises"):
        decode_image(data)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n", pack()[:150]])
def test_no_size_is_read_where_there_is_none(data):
    assert read_size(data) is None
