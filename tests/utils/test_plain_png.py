"""The compiled decoder of plain PNGs: what it reads, and that it leaves the rest to the other."""

from __future__ import annotations

import zlib

import kornia_rs.io as kornia
import numpy as np
import pytest

from mmpanoptic.structures import joint_color_runs, joint_png_runs, plain_png_colors
from mmpanoptic.structures import runs as runs_module

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


@pytest.mark.parametrize("way", DEFLATE)
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("filters", ["0", "1", "2", "3", "4", "mixed"])
def test_all_filters_and_ways_to_deflate_are_read(shape, filters, way):
    image = make_map(*shape, seed=shape[0])
    kinds = [n % 5 for n in range(shape[0])] if filters == "mixed" else [int(filters)] * shape[0]
    data = make_png(shape, deflate(apply_filter(image, kinds), way))
    found = plain_png_colors(data, shape)
    assert found is not None
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(kornia.decode_image_png_u8(data, shape, "rgb"), image)


def test_long_codes_and_several_blocks_are_read():
    """Steeply falling frequencies make codes of up to 15 bits, which no table of 10 bits holds."""
    rng = np.random.default_rng(0)
    values = np.minimum(rng.geometric(0.4, 300 * 200 * 3) - 1, 255).astype(np.uint8)
    image = values.reshape(300, 200, 3)
    for way in ("huffman", "best"):
        stream = deflate(apply_filter(image, [0] * 300), way)
        found = plain_png_colors(make_png((300, 200), stream), (300, 200))
        np.testing.assert_array_equal(found, image)


def test_data_in_pieces_are_joined():
    image = make_map(40, 64, 1)
    stream = deflate(apply_filter(image, [2] * 40))
    pieces = [stream[i : i + 7] for i in range(0, len(stream), 7)]
    np.testing.assert_array_equal(plain_png_colors(make_png((40, 64), *pieces), (40, 64)), image)


def test_what_is_unusual_or_broken_is_left_to_the_other_decoder():
    shape = (40, 64)
    raw = apply_filter(make_map(*shape, 2), [1] * 40)
    stream = deflate(raw)
    whole = make_png(shape, stream)
    assert plain_png_colors(whole, shape) is not None
    broken = {
        "a wrong sum": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        "no end": whole[:-12],
        "no data": make_png(shape),
        "a chunk more": make_png(shape, stream, between=chunk(b"tEXt", b"a\0b")),
        "an unknown filter": make_png(shape, deflate(b"\5" + raw[1:])),
        "too little": make_png(shape, deflate(raw[:-1])),
        "too much": make_png(shape, deflate(raw + b"0")),
        "a cut stream": make_png(shape, stream[: len(stream) // 2]),
        "no zlib": make_png(shape, b"\x79" + stream[1:]),
        "interlaced": whole.replace(b"\x08\x02\0\0\0", b"\x08\x02\0\0\1"),
        "nothing": b"",
    }
    read = [name for name, data in broken.items() if plain_png_colors(data, shape) is not None]
    assert not read


def test_damaged_streams_are_refused_or_read_as_by_the_other_decoder():
    shape = (13, 21)
    image = make_map(*shape, 3)
    streams = [deflate(apply_filter(image, [n % 5 for n in range(13)]), way) for way in DEFLATE]
    rng = np.random.default_rng(4)
    refused = 0
    for turn in range(3000):
        stream = bytearray(streams[turn % len(streams)])
        for place in rng.integers(0, len(stream) - 4, rng.integers(1, 4)):
            stream[place] = rng.integers(0, 256)
        data = make_png(shape, bytes(stream))
        found = plain_png_colors(data, shape)
        if found is None:
            refused += 1
            continue
        np.testing.assert_array_equal(found, kornia.decode_image_png_u8(data, shape, "rgb"))
    assert 0 < refused < 3000


def test_pairs_of_files_count_as_pairs_of_colors():
    shape = (40, 64)
    images = [make_map(*shape, seed) for seed in (5, 6)]
    kinds = [n % 5 for n in range(shape[0])]
    files = [make_png(shape, deflate(apply_filter(image, kinds))) for image in images]
    for _ in range(2):  # the second time in memory that the first has left
        found = joint_png_runs(*files)
        for got, expected in zip(found, joint_color_runs(*images), strict=True):
            assert got.shape == expected.shape
            np.testing.assert_array_equal(got.start, expected.start)
            np.testing.assert_array_equal(got.value, expected.value)


def test_unequal_sizes_and_broken_files_make_no_pair():
    one, two = (make_png(s, deflate(bytes(s[0] * (3 * s[1] + 1)))) for s in ((4, 6), (6, 4)))
    assert joint_png_runs(one, one) is not None
    assert joint_png_runs(one, two) is None
    assert joint_png_runs(one, one[:-20]) is None
    assert joint_png_runs(b"", one) is None
