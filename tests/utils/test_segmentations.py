import pickle

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmpanoptic.utils.segmentations import (
    PackedPolygons,
    check_segmentation,
    count_text,
    decode,
    encode,
    is_outside,
    pack,
)

SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]
PAIRS = [[2, 1], [6, 1], [6, 4], [2, 4]]
SIZE = (8, 10)


def square():
    mask = np.zeros(SIZE, np.uint8)
    mask[1:4, 2:6] = 1
    return mask


def text_code():
    code = coco_mask.encode(np.asfortranarray(square()))
    return {"size": list(SIZE), "counts": code["counts"].decode()}


def list_code():
    changes = np.flatnonzero(np.diff(square().ravel("F"), prepend=0))
    return {"size": list(SIZE), "counts": np.diff([0, *changes, 80]).tolist()}


FORMS = {
    "polygons": [SQUARE],
    "flat": SQUARE,
    "pairs": PAIRS,
    "lists of pairs": [PAIRS],
    "text": text_code(),
    "bytes": {**text_code(), "counts": text_code()["counts"].encode()},
    "list": list_code(),
    "code in a list": [text_code()],
    "codes": [text_code(), list_code()],
    "tuple size": {**text_code(), "size": SIZE},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_with_a_plain_meaning_is_drawn(form):
    checked = check_segmentation(FORMS[form], *SIZE)
    np.testing.assert_array_equal(decode(checked, *SIZE), square())


def test_polygons_are_drawn_as_pycocotools_draws_them():
    rng = np.random.default_rng(0)
    for _ in range(50):
        polygons = [(rng.random(2 * n) * 60 - 10).round(1).tolist() for n in (3, 5, 20)]
        checked = check_segmentation(polygons, 40, 50)
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 40, 50)))
        np.testing.assert_array_equal(decode(checked, 40, 50), expected)


def test_texts_are_decoded_as_pycocotools_decodes_them():
    rng = np.random.default_rng(1)
    for density in (0, 0.001, 0.3, 0.5, 1):
        for _ in range(30):
            height, width = rng.integers(1, 300, 2)
            mask = np.asfortranarray(rng.random((height, width)) < density, np.uint8)
            counts = count_text(coco_mask.encode(mask)["counts"])
            drawn = np.repeat(np.arange(len(counts)) % 2, counts)
            np.testing.assert_array_equal(drawn, mask.ravel("F"))


NAN, INFINITY = float("nan"), float("inf")
BAD = {
    "null": (None, "is None"),
    "text": ("x", "is 'x'"),
    "number": (3, "is 3"),
    "empty": ([], "empty list"),
    "empty polygon": ([[]], "0 points"),
    "one point": ([[1, 2]], "1 point;"),
    "two points": ([[1, 1, 2, 2]], "2 points; it needs at least three points"),
    "one of two is short": ([SQUARE, [1, 1, 2, 2]], "at least three points"),
    "odd": ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers; x and y make an even count"),
    "nan": ([[NAN, 1, 2, 3, 4, 5]], "not finite"),
    "infinity": ([[1, 1, INFINITY, 3, 4, 5]], "not finite"),
    "far": ([[0, 0, 1e9, 0, 1e9, 1e9]], "far outside the image of 10 x 8"),
    "far negative": ([[0, 0, -101, 0, 3, 3]], "coordinate -101, far outside"),
    "texts": ([["1", "2", "3", "4", "5", "6"]], "no list of numbers"),
    "nulls": ([[1, 2, None, 4, 5, 6]], "no list of numbers"),
    "truths": ([[True] * 6], "no list of numbers"),
    "huge number": ([[10**400, 2, 3, 4, 5, 6]], "no list of numbers"),
    "null polygon": ([None], "holds None where a polygon is due"),
    "mixed": ([SQUARE, {"size": [8, 10], "counts": [80]}], "holds {"),
    "no counts": ({"size": [8, 10]}, "is an object with size"),
    "no size": ({"counts": [80]}, "is an object with counts"),
    "size of text": ({"size": ["8", "10"], "counts": [80]}, "has size"),
    "size 0": ({"size": [0, 10], "counts": []}, "has size"),
    "other size": ({"size": [9, 10], "counts": [90]}, "the image has [8, 10]"),
    "swapped": ({"size": [10, 8], "counts": [80]}, "height and width are exchanged"),
    "short": ({"size": [8, 10], "counts": [30, 20]}, "add up to 50, but the size has 80 pixels"),
    "long": ({"size": [8, 10], "counts": [30, 70]}, "add up to 100"),
    "none": ({"size": [8, 10], "counts": []}, "add up to 0"),
    "negative": ({"size": [8, 10], "counts": [90, -10]}, "negative run length: -10"),
    "fraction": ({"size": [8, 10], "counts": [40.0, 40]}, "40.0 among its counts"),
    "null count": ({"size": [8, 10], "counts": [None]}, "None among its counts"),
    "enormous": ({"size": [8, 10], "counts": [1 << 40]}, "more than 2**32"),
    "null counts": ({"size": [8, 10], "counts": None}, "has counts None"),
    "short text": ({**text_code(), "counts": text_code()["counts"][:-1]}, "counts"),
    "strange text": ({"size": [8, 10], "counts": "~~"}, "characters that no run-length code has"),
    "umlaut": ({"size": [8, 10], "counts": "ä"}, "characters that no run-length code has"),
    "cut text": ({"size": [8, 10], "counts": "o"}, "cut off"),
    "endless text": ({"size": [8, 10], "counts": "o" * 30 + "0"}, "more than 2**32"),
    "empty text": ({"size": [8, 10], "counts": ""}, "add up to 0"),
    "codes of two sizes": (
        [{"size": [2, 2], "counts": [4]}, {"size": [2, 3], "counts": [6]}],
        "several sizes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name):
    value, message = BAD[name]
    size = (None, None) if name == "codes of two sizes" else SIZE
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        check_segmentation(value, *size)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_without_a_size_places_are_not_checked():
    assert check_segmentation([[0, 0, 1e9, 0, 1e9, 1e9]]) == [[0, 0, 1e9, 0, 1e9, 1e9]]
    assert check_segmentation({"size": [9, 10], "counts": [90]})["size"] == [9, 10]


@pytest.mark.parametrize("polygon", [[-9, 1, -5, 1, -5, 4, -9, 4], [10, 1, 20, 1, 20, 9, 10, 9]])
def test_polygons_beyond_the_edges_are_outside(polygon):
    assert is_outside([polygon], *SIZE)
    assert not is_outside([polygon, SQUARE], *SIZE)
    assert coco_mask.area(encode([polygon], *SIZE)) == 0


@pytest.mark.parametrize("value", [[SQUARE], [SQUARE, SQUARE], [[1, 2, 3, 4, 5, 6]]])
def test_polygons_are_packed_until_they_are_drawn(value):
    packed = pack(value)
    assert isinstance(packed, PackedPolygons)
    assert check_segmentation(packed, *SIZE) == value
    assert check_segmentation(pickle.loads(pickle.dumps(packed)), *SIZE) == value  # noqa: S301


@pytest.mark.parametrize("name", BAD)
def test_packing_hides_no_fault(name):
    value, message = BAD[name]
    size = (None, None) if name == "codes of two sizes" else SIZE
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        check_segmentation(pack(value), *size)
    assert message.replace("coordinate -101,", "coordinate -101.0,") in str(caught.value)
