import json
import re

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmpanoptic.datasets.converters.maps import MaskEncoder, decode_mask
from mmpanoptic.datasets.converters.painting import (
    OVERLAP_RULES,
    Shape,
    combine_maps,
    paint_shapes,
)
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from . import tool
from .tool import contents

CATEGORIES = [
    {"id": 0, "name": "grass", "isthing": 0},
    {"id": 7, "name": "sheep", "isthing": 1},
    {"id": 3, "name": "wool", "isthing": 1},
]
TABLE = LabelTable.from_categories(CATEGORIES)
GRASS, SHEEP, WOOL = range(3)


def shape(text, label, **extra):
    row = np.array([[c == "x" for c in text]], np.uint8, order="F")
    return Shape(coco_mask.encode(row), label, **extra)


def brief(segments):
    return [(s["id"], s["category_id"], s["iscrowd"], s["area"], s["bbox"]) for s in segments]


def test_ids_follow_label_and_order():
    shapes = [shape("....xx", WOOL), shape(".xx...", SHEEP, iscrowd=1), shape("x.....", SHEEP)]
    ids, segments, fates = paint_shapes(shapes, (1, 6), TABLE, background=GRASS)
    assert ids.tolist() == [[3, 2, 2, 1, 4, 4]]
    assert fates == ["kept", "crowd", "kept"]
    assert brief(segments) == [
        (1, 0, 0, 1, [3, 0, 1, 1]),
        (2, 7, 1, 2, [1, 0, 2, 1]),
        (3, 7, 0, 1, [0, 0, 1, 1]),
        (4, 3, 0, 2, [4, 0, 2, 1]),
    ]


def test_stuff_is_one_segment_with_the_background():
    ids, segments, _ = paint_shapes(
        [shape("x...", GRASS), shape("xx..", GRASS)], (1, 4), TABLE, background=GRASS
    )
    assert ids.tolist() == [[1, 1, 1, 1]]
    assert len(segments) == 1


@pytest.mark.parametrize(
    ("rule", "expected"), [("first", [1, 1, 2]), ("last", [1, 2, 2]), ("score", [1, 1, 2])]
)
def test_overlaps_are_decided_by_the_rule(rule, expected):
    shapes = [shape("xx.", SHEEP, score=0.9), shape(".xx", SHEEP, score=0.2)]
    assert paint_shapes(shapes, (1, 3), TABLE, rule).ids.tolist() == [expected]


def test_equal_scores_leave_the_earlier_one_on_top():
    shapes = [shape("xx.", SHEEP), shape(".xx", SHEEP)]
    assert paint_shapes(shapes, (1, 3), TABLE, "score").ids.tolist() == [[1, 1, 2]]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_smaller_one_is_on_top_by_default(reverse):
    shapes = [shape("xxxx", SHEEP), shape(".xx.", GRASS), shape("..x.", WOOL)]
    ids = paint_shapes(shapes[::-1] if reverse else shapes, (1, 4), TABLE).ids
    assert ids.tolist() == [[2, 1, 3, 2]]


def test_overlaps_can_be_refused():
    shapes = [shape("xx.", SHEEP, name="id 5"), shape(".xx", WOOL, name="id 8")]
    with pytest.raises(ValueError, match=r"id 5 \(sheep\) and id 8 \(wool\) overlap in 1 pixels"):
        paint_shapes(shapes, (1, 3), TABLE, "error")


@pytest.mark.parametrize("rule", OVERLAP_RULES)
@pytest.mark.parametrize("first", [False, True])
def test_a_crowd_lies_under_single_instances_whatever_the_rule(rule, first):
    crowd, single = shape("xxxx.", SHEEP, iscrowd=1, score=0.9), shape(".xx..", SHEEP)
    shapes = [crowd, single] if first else [single, crowd]
    ids, segments, fates = paint_shapes(shapes, (1, 5), TABLE, rule)
    areas = {segment["iscrowd"]: segment["area"] for segment in segments}
    assert areas == {0: 2, 1: 2}
    assert sorted(fates) == ["crowd", "kept"]
    assert ids[0, 1] == ids[0, 2] != ids[0, 0] == ids[0, 3] != ids[0, 4] == 0


def test_a_crowd_may_cover_stuff_and_be_covered_by_it():
    shapes = [shape("xxx", GRASS), shape(".xx", SHEEP, iscrowd=1)]
    assert paint_shapes(shapes, (1, 3), TABLE, "last").ids.tolist() == [[1, 2, 2]]
    assert paint_shapes(shapes, (1, 3), TABLE, "first").fates == ["kept", "covered"]
    with pytest.raises(ValueError, match="overlap in 2 pixels"):
        paint_shapes(shapes, (1, 3), TABLE, "error")


def test_stuff_is_no_crowd():
    _, segments, fates = paint_shapes([shape("xx", GRASS, iscrowd=1)], (1, 2), TABLE)
    assert [segment["iscrowd"] for segment in segments] == [0]
    assert fates == ["kept"]


def test_every_shape_has_a_fate():
    shapes = [
        shape(".x.", WOOL),
        shape("xxx", SHEEP),
        shape("...", SHEEP),
        shape("...", SHEEP, outside=True),
    ]
    ids, segments, fates = paint_shapes(shapes, (1, 3), TABLE, "last")
    assert ids.tolist() == [[1, 1, 1]]
    assert len(segments) == 1
    assert fates == ["covered", "kept", "tiny", "outside"]


def test_painting_equals_whole_masks_painted_one_after_another():
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(5, 60, 2).tolist()
        masks, shapes = [], []
        for _ in range(15):
            y, x, r = rng.integers(0, height), rng.integers(0, width), rng.integers(1, 20)
            mask = np.zeros((height, width), np.uint8)
            cv2.circle(mask, (int(x), int(y)), int(r), 1, -1)
            masks.append(mask)
            shapes.append(Shape(coco_mask.encode(np.asfortranarray(mask)), WOOL))
        expected = np.full((height, width), -1)
        for k in sorted(range(15), key=lambda k: -int(masks[k].sum())):
            expected[masks[k] > 0] = k
        ids = paint_shapes(shapes, (height, width), TABLE).ids
        numbers = {k: n for n, k in enumerate(sorted(set(np.unique(expected)) - {-1}), 1)}
        assert np.array_equal(ids, np.vectorize({-1: 0, **numbers}.get)(expected))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="unknown rule 'best'"):
        paint_shapes([], (1, 3), TABLE, "best")


def test_maps_are_combined():
    #                  void grass grass sheep sheep sheep wool wool
    labels = np.array([[-1, 0, 0, 1, 1, 1, 2, 2]])
    instances = np.array([[5, 0, 9, 5, 5, 0, 5, 65535]], np.uint16)
    ids, segments = combine_maps(labels, instances, TABLE)
    assert ids.tolist() == [[0, 1, 1, 2, 2, 0, 3, 4]]
    assert [s["category_id"] for s in segments] == [0, 7, 3, 3]
    ids, segments = combine_maps(labels, instances, TABLE, zero_is_crowd=True)
    assert ids.tolist() == [[0, 1, 1, 3, 3, 2, 4, 5]]
    assert [s["iscrowd"] for s in segments] == [0, 1, 0, 0, 0]


def test_an_all_void_map_has_no_segments():
    ids, segments = combine_maps(np.full((2, 2), -1), np.zeros((2, 2)), TABLE)
    assert not ids.any()
    assert segments == []


@pytest.fixture
def files(tmp_path):
    ids = np.array([[1, 1, 0, 2], [1, 1, 0, 2]])
    encoder = MaskEncoder(ids)
    polygon = [2, 0, 3, 0, 3, 2, 2, 2]
    annotations = [
        {"id": 4, "image_id": 1, "category_id": 7, "segmentation": encoder.encode(1), "score": 0.5},
        {"id": 5, "image_id": 1, "category_id": 0, "segmentation": encoder.encode(2)},
        {"id": 6, "image_id": 1, "category_id": 3, "segmentation": [polygon], "iscrowd": 0},
    ]
    images = [
        {"id": i, "file_name": f"{n}.jpeg", "height": 2, "width": 4}
        for i, n in [(1, "a"), (2, "b")]
    ]
    content = {"images": images, "annotations": annotations[:2], "categories": CATEGORIES}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(annotations[2:]))
    return tmp_path


def convert(files, *extra):
    args = [files / "coco.json", files / "results.json", "--out", files / "out" / "p.json"]
    args += ["--images", files / "coco.json", "--categories", files / "coco.json"]
    return tool.call("instances2panoptic", *args, *extra)


def test_annotations_and_results_become_one_set(files):
    assert convert(files, "--nproc", 2)[0] == 0
    content = json.loads((files / "out" / "p.json").read_text())
    assert [a["file_name"] for a in content["annotations"]] == ["a.png", "b.png"]
    assert [s["category_id"] for s in content["annotations"][0]["segments_info"]] == [0, 7, 3]
    assert content["annotations"][1]["segments_info"] == []
    ids = read_panoptic_png(files / "out" / "p" / "a.png")
    assert ids.tolist() == [[2, 2, 3, 1], [2, 2, 3, 1]]
    before = contents(files)
    assert "(0 converted now)" in convert(files)[1]
    assert contents(files) == before
    content["images"].pop()  # of the second one, which has no segments
    content["annotations"].pop()
    (files / "out" / "p.json").write_text(json.dumps(content))
    assert tool.call("check", files / "out" / "p.json")[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 9}, "unknown_category"),
        ({"image_id": 9}, "missing_image"),
        (
            {"segmentation": {"size": [4, 2], "counts": "08"}},
            "[4, 2] (height, width), the image has [2, 4]",
        ),
        ({"segmentation": [[1, 2, 3, 4]]}, "at least three points"),
        ({"segmentation": None}, "results.json"),
        ({"score": "high"}, "score must be a number, got 'high'"),
    ],
)
def test_bad_annotations_are_named(files, change, message):
    path = files / "results.json"
    content = json.loads(path.read_text())
    content[0].update(change)
    path.write_text(json.dumps(content))
    status, _, error = convert(files)
    assert status == 1
    assert message in error


def test_overlapping_masks_are_balanced_or_refused(files):
    path = files / "results.json"
    content = json.loads(path.read_text())
    content[0]["segmentation"] = [[0, 0, 4, 0, 4, 2, 0, 2]]
    path.write_text(json.dumps(content))
    status, text, _ = convert(files, "--overlap", "last")
    assert status == 0
    assert re.search(r"covered wholly by others +1 +1", text)
    assert "things, covered wholly by others: id 4 of a.jpeg" in text
    assert "warning: 1 of 2 things (50.0 %) are lost" in text
    status, _, error = convert(files, "--overlap", "error")
    assert status == 1
    assert "[overlapping_masks] image 1: the masks id 4 (sheep) and id 6 (wool)" in error


def test_the_background_must_be_stuff(files):
    assert "sheep is a thing" in convert(files, "--background", "sheep")[2]
    assert "unknown class 'sky'" in convert(files, "--background", "sky")[2]
    assert convert(files, "--background", "grass")[0] == 0
    assert read_panoptic_png(files / "out" / "p" / "b.png").tolist() == [[1] * 4] * 2


@pytest.fixture
def two_channels(files):
    red = [[7, 7, 3, 255], [7, 7, 3, 0]]
    green = [[2, 1, 0, 0], [2, 1, 0, 0]]
    color = np.stack([np.zeros((2, 4)), green, red], 2).astype(np.uint8)
    (files / "png").mkdir()
    for name in "ab":
        cv2.imwrite(str(files / "png" / f"{name}.png"), color)
    return files


def convert_channels(files, *extra):
    args = [files / "png", "--images", files / "coco.json", "--categories", files / "coco.json"]
    return tool.call("two_channel2panoptic", *args, "--out", files / "q.json", *extra)


def test_two_channels_become_segments(two_channels):
    assert convert_channels(two_channels, "--void", 255)[0] == 0
    assert read_panoptic_png(two_channels / "q" / "a.png").tolist() == [[4, 3, 2, 0], [4, 3, 2, 1]]
    content = json.loads((two_channels / "q.json").read_text())
    segments = content["annotations"][0]["segments_info"]
    assert [s["category_id"] for s in segments] == [0, 3, 7, 7]
    assert "(0 converted now)" in convert_channels(two_channels, "--void", 255)[1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.zeros((2, 4), np.uint8), "bad_png_mode"),
        (np.zeros((4, 2, 3), np.uint8), "size_mismatch"),
        (np.full((2, 4, 3), 9, np.uint8), "unknown_category"),
    ],
)
def test_bad_two_channel_files_are_named(two_channels, values, kind):
    cv2.imwrite(str(two_channels / "png" / "b.png"), values)
    status, _, error = convert_channels(two_channels, "--void", 255)
    assert status == 1
    assert kind in error
    assert "b.png" in error


def test_missing_two_channel_files_are_listed(two_channels):
    for name in "ab":
        (two_channels / "png" / f"{name}.png").unlink()
    error = convert_channels(two_channels)[2]
    assert "a.png" in error
    assert "b.png" in error


@pytest.mark.parametrize("value", [1e30, 1e9, -1e9, 1e7, float("nan"), float("inf"), -961])
def test_polygons_far_outside_of_the_image_are_refused(value):
    with pytest.raises(ValueError, match=r"far outside the image of 96 x 64|not finite"):
        decode_mask([[0.0, 0.0, 9.0, 9.0, 0.0, 9.0], [0.0, 0.0, value, 0.0, 5.0, 9.0]], 64, 96)


def test_polygons_a_little_outside_of_the_image_are_clipped():
    mask = decode_mask([[-50.0, -50.0, 300.0, -50.0, 300.0, 200.0, -50.0, 200.0]], 64, 96)
    assert mask.all()
