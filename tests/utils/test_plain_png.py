"""The fast way to the pixels of plain PNGs: what goes there, and what is left to the decoder."""

from __future__ import annotations

import zlib
from contextlib import suppress

import kornia_rs.io as kornia
import numpy as np
import pytest

from mmpanoptic.structures import runs as runs_module
from mmpanoptic.structures import undo_png_filters
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.png_bytes import decode_pixels

pytestmark = pytest.mark.skipif(runs_module._runs is None, reason="nothing is compiled")

SIZES = [(1, 1), (3, 2), (5, 8), (7, 9), (4, 33), (40, 64)]
DEFLATE = {
    "stored": (0, zlib.Z_DEFAULT_STRATEGY),
    "fast": (1, zlib.Z_DEFAULT_STRATEGY),
    "best": (9, zlib.Z_DEFAULT_STRATEGY),
    "fixed": (6, zlib.Z_FIXED),
    "huffman": (6, zlib.Z_HUFFMAN_ONLY),
    "rle": (6, zlib.Z_RLE),
}


def make_map(height, width, seed):
    """Draw a map of blocks with some noise, so that there are runs and none."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (-(-height // 8), -(-width // 16), 3), np.uint8)
    image = blocks.repeat(8, 0).repeat(16, 1)[:height, :width].copy()
    noisy = rng.random((height, width)) < 0.05
    image[noisy] = rng.integers(0, 256, (int(noisy.sum()), 3))
    return image


def apply_filter(image, filters):
    """Filter rows as the standard (section 9) says: the type, and differences modulo 256."""
    rows = []
    padded = np.pad(image.astype(np.int64), ((1, 0), (1, 0), (0, 0)))
    for number, kind in enumerate(filters, 1):
        left, up = padded[number, :-1], padded[number - 1, 1:]
        corner = padded[number - 1, :-1]
        guess = left + up - corner
        distances = np.abs(np.stack([guess - left, guess - up, guess - corner]))
        paeth = np.choose(distances.argmin(0), [left, up, corner])
        expected = [0, left, up, (left + up) // 2, paeth][kind]
        row = (padded[number, 1:] - expected) % 256
        rows.append(bytes([kind]) + row.astype(np.uint8).tobytes())
    return b"".join(rows)


def chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def make_png(shape, *bodies, between=b""):
    header = shape[1].to_bytes(4, "big") + shape[0].to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = b"".join(chunk(b"IDAT", body) for body in bodies)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + data + chunk(b"IEND", b"")


def deflate(raw, way="best"):
    level, strategy = DEFLATE[way]
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
    return packer.compress(raw) + packer.flush()


@pytest.fixture
def asked(monkeypatch):
    """Files that the general decoder was asked for."""
    files, decode = [], kornia.decode_image_png_u8

    def ask(data, *others):
        files.append(data)
        return decode(data, *others)

    monkeypatch.setattr(kornia, "decode_image_png_u8", ask)
    return files


@pytest.mark.parametrize("way", DEFLATE)
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("filters", ["0", "1", "2", "3", "4", "mixed"])
def test_all_filters_and_ways_to_deflate_are_read(shape, filters, way, asked):
    image = make_map(*shape, seed=shape[0])
    kinds = [n % 5 for n in range(shape[0])] if filters == "mixed" else [int(filters)] * shape[0]
    data = make_png(shape, deflate(apply_filter(image, kinds), way))
    found = decode_pixels(data, "a.png")
    assert not asked
    assert found.flags.writeable
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(kornia.decode_image_png_u8(data, shape, "rgb"), image)


def test_data_in_pieces_are_joined(asked):
    image = make_map(40, 64, 1)
    stream = deflate(apply_filter(image, [2] * 40))
    pieces = [stream[i : i + 7] for i in range(0, len(stream), 7)]
    np.testing.assert_array_equal(decode_pixels(make_png((40, 64), *pieces), "a.png"), image)
    assert not asked


SHAPE = (40, 64)
RAW = apply_filter(make_map(*SHAPE, 2), [1] * 40)
STREAM = deflate(RAW)
WHOLE = make_png(SHAPE, STREAM)
OTHERS = {
    "a wrong sum of a chunk": WHOLE[:60] + bytes([WHOLE[60] ^ 1]) + WHOLE[61:],
    "a wrong sum of the stream": make_png(SHAPE, STREAM[:-1] + bytes([STREAM[-1] ^ 1])),
    "no data": make_png(SHAPE),
    "no columns": make_png((2, 0), deflate(b"\0\0")),
    "no rows": make_png((0, 2), deflate(b"")),
    "a chunk more": make_png(SHAPE, STREAM, between=chunk(b"tEXt", b"a\0b")),
    "an unknown filter": make_png(SHAPE, deflate(b"\5" + RAW[1:])),
    "too little": make_png(SHAPE, deflate(RAW[:-1])),
    "too much": make_png(SHAPE, deflate(RAW + b"0")),
    "a cut stream": make_png(SHAPE, STREAM[: len(STREAM) // 2]),
    "no zlib": make_png(SHAPE, b"\x79" + STREAM[1:]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_unusual_or_broken_is_left_to_the_general_decoder(name, asked):
    with suppress(PanopticFormatError):
        decode_pixels(OTHERS[name], "a.png")
    assert asked == [OTHERS[name]]


def test_damaged_streams_are_refused_or_read_as_by_the_general_decoder(asked):
    shape = (13, 21)
    image = make_map(*shape, 3)
    streams = [deflate(apply_filter(image, [n % 5 for n in range(13)]), way) for way in DEFLATE]
    rng = np.random.default_rng(4)
    for turn in range(1000):
        stream = bytearray(streams[turn % len(streams)])
        for place in rng.integers(0, len(stream) - 4, rng.integers(1, 4)):
            stream[place] = rng.integers(0, 256)
        data = make_png(shape, bytes(stream))
        with suppress(PanopticFormatError):
            decode_pixels(data, "a.png")
    # The sum of the stream finds the damage, unless the bytes stayed what they were.
    assert 900 < len(asked) < 1000


@pytest.mark.parametrize("rows", [b"", b"\0" * 7, b"\0" * 12])
def test_rows_of_another_length_are_an_error(rows):
    with pytest.raises(ValueError, match="a filter and its pixels"):
        undo_png_filters(bytearray(rows), (2, 3))
