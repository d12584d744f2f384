"""tools/dataset_converters/coco_relations.py and what it is made of."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmpanoptic.checkpoints.restricted_pickle import load_weights_pickle
from mmpanoptic.datasets.converters.relation_files import extract_relations, load_set
from mmpanoptic.datasets.converters.relation_matching import (
    match_box_overlap,
    match_nearest_box,
    match_segment_id,
)
from mmpanoptic.datasets.converters.relations import RelationOptions, Silhouette, find_relations
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .tool import call

SIZE = (60, 80)
BOXES = {1: (0, 0, 40, 30), 2: (30, 10, 30, 30), 3: (5, 40, 20, 15)}  # x, y, width, height
AREAS = {1: 1000, 2: 900, 3: 300}  # the first lost pixels to the second


def polygon(x, y, width, height):
    return [x, y, x + width - 1, y, x + width - 1, y + height - 1, x, y + height - 1]


def code_of(box):
    mask = np.zeros(SIZE, np.uint8, order="F")
    x, y, width, height = box
    mask[y : y + height, x : x + width] = 1
    return {"size": list(SIZE), "counts": coco_mask.encode(mask)["counts"].decode()}


def instances(kind="polygon"):
    form = {"polygon": lambda box: [polygon(*box)], "rle": code_of}[kind]
    return [
        {
            "id": 10 * number,
            "image_id": 7,
            "category_id": 1,
            "bbox": list(box),
            "segmentation": form(box),
            "iscrowd": 0,
            "segment_id": number,
            "depth": 4 - number,
        }
        for number, box in BOXES.items()
    ]


def segments():
    return [
        {"id": n, "category_id": 1, "bbox": list(BOXES[n]), "area": AREAS[n], "iscrowd": 0}
        for n in BOXES
    ]


def find(things, **options):
    found = find_relations(things, segments(), {1}, SIZE, RelationOptions(**options))
    return found.fronts, found.counts


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_the_one_that_lost_less_lies_in_front(kind):
    # 10 x 20 common pixels: 0.167 of the first, 0.222 of the second.
    fronts, counts = find(instances(kind))
    assert fronts == {10: [20]}
    assert (counts.relations, counts.overlapping_pairs, counts.small_overlaps) == (1, 1, 0)


def test_the_greater_depth_lies_in_front():
    assert find(instances(), front="depth")[0] == {20: [10]}


def test_small_overlaps_are_no_relations():
    fronts, counts = find(instances(), overlap_thr=0.25)
    assert fronts == {}
    assert (counts.relations, counts.small_overlaps) == (0, 1)


def test_a_pair_that_loses_as_much_has_no_front():
    things = instances()
    same = [{**s, "area": BOXES[s["id"]][2] * BOXES[s["id"]][3]} for s in segments()]
    found = find_relations(things, same, {1}, SIZE, RelationOptions())
    assert found.fronts == {}
    assert found.counts.ties == 1


def test_crowds_have_no_relations():
    things = instances()
    things[1]["iscrowd"] = 1
    fronts, counts = find(things)
    assert fronts == {}
    assert counts.crowds == 1


def test_run_length_codes_with_lists_and_empty_masks_work():
    full = Silhouette({"size": list(SIZE), "counts": [0, 60, 60 * 79]}, SIZE)
    assert (full.area, full.window) == (60, (0, 0, 1, 60))
    empty = Silhouette({"size": list(SIZE), "counts": [60 * 80]}, SIZE)
    assert (empty.area, empty.intersection(full)) == (0, 0)
    assert Silhouette([], SIZE).area == 0
    assert Silhouette([polygon(500, 500, 4, 4)], SIZE).area == 0


def test_matching_as_published_loses_the_first_of_two_segments():
    twice = [segments()[0], {**segments()[0], "id": 9}, segments()[1]]
    assert match_nearest_box(instances(), twice) == {1: 2}
    assert match_nearest_box(instances(), [*twice, {**twice[0], "id": 11}]) == {0: 3, 1: 2}
    assert match_nearest_box([], twice) == {}


def test_matching_by_overlap_heeds_the_class():
    things = copy.deepcopy(instances())
    things[0]["category_id"] = 2
    assert match_box_overlap(things, segments()) == {1: 1, 2: 2}
    assert match_box_overlap(instances(), segments()) == {0: 0, 1: 1, 2: 2}


def test_matching_by_id_and_depth_need_the_fields():
    plain = [
        {k: v for k, v in one.items() if k not in ("segment_id", "depth")} for one in instances()
    ]
    assert match_segment_id(instances(), segments()) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(ValueError, match="no segment_id"):
        match_segment_id(plain, segments())
    with pytest.raises(ValueError, match="no depth"):
        find(plain, front="depth")


@pytest.mark.parametrize(
    "options", [{"matching": "magic"}, {"front": "left"}, {"overlap_thr": 1.5}]
)
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match=r"unknown|must lie"):
        RelationOptions(**options)


@pytest.fixture
def files(tmp_path):
    """A set of one image, its PNG and one image without instances."""
    ids = np.zeros(SIZE, np.int32)
    for number in (1, 3, 2):
        x, y, width, height = BOXES[number]
        ids[y : y + height, x : x + width] = number
    listed = [{**s, "area": int((ids == s["id"]).sum())} for s in segments()]
    categories = [{"id": 1, "name": "cup", "isthing": 1}]
    images = [{"id": i, "height": SIZE[0], "width": SIZE[1], "file_name": "a.jpg"} for i in (7, 8)]
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/a.png").write_bytes(encode_panoptic_png(ids))
    panoptic = {
        "images": images,
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": listed}],
        "categories": categories,
    }
    truth = {"images": images, "annotations": instances(), "categories": categories}
    (tmp_path / "panoptic.json").write_text(json.dumps(panoptic))
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    return tmp_path


def test_the_command_writes_overlaps_counts_and_the_published_pickle(files):
    status, text, _ = call(
        "coco_relations",
        files / "instances.json",
        files / "panoptic.json",
        *("--report", "--verify", files / "maps", "--nproc", 1),
        *("--relations", files / "relations.json", "--pickle", files / "relations.pkl"),
    )
    assert status == 0
    assert "relations: 1" in text
    written = json.loads((files / "instances_with_relation.json").read_text())
    assert [a["overlap"] for a in written["annotations"]] == [[20], [], []]
    assert json.loads((files / "relations.json").read_text()) == {"7": {"10": [20]}}
    assert load_weights_pickle(files / "relations.pkl") == {7: {10: [20]}}


def test_verify_finds_areas_that_differ_from_the_png(files):
    content = json.loads((files / "panoptic.json").read_text())
    content["annotations"][0]["segments_info"][0]["area"] += 5
    (files / "panoptic.json").write_text(json.dumps(content))
    arguments = (files / "instances.json", files / "panoptic.json", "--nproc", 1)
    status, _, errors = call("coco_relations", *arguments, "--verify", files / "maps")
    assert status == 1
    assert "segment 1 has area" in errors
    assert call("coco_relations", *arguments)[0] == 0


def test_a_file_without_lists_is_an_error(files):
    (files / "panoptic.json").write_text("{}")
    status, _, errors = call(
        "coco_relations", files / "instances.json", files / "panoptic.json", "--nproc", 1
    )
    assert status == 1
    assert "no list" in errors


def test_images_without_relations_have_an_empty_entry(files):
    source = load_set(files / "instances.json", files / "panoptic.json")
    relations, counts = extract_relations(
        source, RelationOptions(overlap_thr=0.9), show_progress=False
    )
    assert relations == {7: {}}
    assert counts.images_with_relations == 0
