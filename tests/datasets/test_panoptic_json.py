from __future__ import annotations

import copy

import pytest

from mmpanoptic.datasets.panoptic_json import (
    PanopticJson,
    check_categories,
    read_categories,
)
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.files import is_inside
from mmpanoptic.utils.format_errors import PanopticFormatError

CATEGORIES = [{"id": 7, "name": "grass", "isthing": 0}, {"id": 0, "name": "cow", "isthing": 1}]
TABLE = LabelTable.from_categories(CATEGORIES)


def make_content() -> dict:
    segment = {"id": 9, "category_id": 7, "iscrowd": 0, "area": 4, "bbox": [0, 0, 2, 2]}
    return {
        "images": [
            {"id": 1, "file_name": "a.jpeg", "height": 4, "width": 6},
            {"id": 2, "file_name": "b/c.png", "height": 4, "width": 6},
        ],
        "annotations": [
            {
                "image_id": 2,
                "file_name": "deep/c_map.png",
                "segments_info": [segment, {**segment, "id": 5, "category_id": 0, "iscrowd": 1}],
            }
        ],
        "categories": CATEGORIES,
    }


def kinds_of(content: dict, **kwargs) -> list[str]:
    with pytest.raises(PanopticFormatError, match=r"ann\.json") as error:
        PanopticJson(content, "ann.json", TABLE, **kwargs).records()
    return [problem.kind for problem in error.value.problems]


def test_a_record_joins_image_and_annotation_by_id():
    (record,) = PanopticJson(make_content(), "ann.json", TABLE).records()
    segments = record.pop("segments_info")
    assert record == {
        "img_id": 2,
        "img_file": "b/c.png",
        "seg_file": "deep/c_map.png",
        "height": 4,
        "width": 6,
        "annotation_index": 0,
    }
    assert [(s["label"], s["isthing"], s["iscrowd"]) for s in segments] == [
        (0, False, 0),
        (1, True, 1),
    ]


def broken(path: str, value: object) -> dict:
    """Set the field at a path like annotations/0/image_id; None deletes it."""
    content = copy.deepcopy(make_content())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    node = content
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return content


SEGMENT = "annotations/0/segments_info/0/"


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("images/0/width", None, "missing_field"),
        ("images/0/width", 0, "bad_field"),
        ("images/0/height", "4", "bad_field"),
        ("images/0/id", 2, "duplicate_image"),
        ("images/0/id", [1], "bad_field"),
        ("images/0/file_name", "../a.jpeg", "unsafe_path"),
        ("images/0/file_name", "/etc/passwd", "unsafe_path"),
        ("images/0", "a.jpeg", "bad_field"),
        ("annotations", None, "missing_field"),
        ("annotations", [], "empty_annotation"),
        ("annotations/0/segments_info", None, "missing_field"),
        ("annotations/0/segments_info", {}, "bad_field"),
        ("annotations/0/image_id", 3, "missing_image"),
        ("annotations/0/image_id", "2", "missing_image"),
        ("annotations/0/file_name", "x/../../y.png", "unsafe_path"),
        ("annotations/0/file_name", 3, "bad_field"),
        (SEGMENT + "id", 0, "zero_id"),
        (SEGMENT + "id", -1, "bad_id"),
        (SEGMENT + "id", 2**24, "bad_id"),
        (SEGMENT + "id", "9", "bad_id"),
        (SEGMENT + "id", [9], "bad_id"),
        (SEGMENT + "id", 5, "duplicate_segment_id"),
        (SEGMENT + "id", None, "missing_field"),
        (SEGMENT + "category_id", 8, "unknown_category"),
        (SEGMENT + "category_id", "7", "unknown_category"),
        (SEGMENT + "category_id", None, "missing_field"),
        (SEGMENT + "iscrowd", None, "missing_field"),
        (SEGMENT + "iscrowd", 2, "bad_field"),
        (SEGMENT + "area", None, "missing_field"),
        (SEGMENT + "area", "4", "bad_field"),
        (SEGMENT + "area", -4, "bad_field"),
    ],
)
def test_each_kind_of_problem_is_found_and_names_the_file(path, value, kind):
    assert kinds_of(broken(path, value)) == [kind]


def test_a_file_without_images_is_refused():
    assert kinds_of(broken("images", None))[0] == "missing_field"


def test_an_image_annotated_twice_is_refused():
    content = make_content()
    content["annotations"] *= 2
    assert kinds_of(content) == ["duplicate_image"]


def test_all_problems_are_listed_with_image_and_segment():
    content = broken(SEGMENT + "id", 0)
    content["images"][0]["height"] = -3
    content["annotations"][0]["segments_info"][1]["category_id"] = 99
    with pytest.raises(PanopticFormatError) as error:
        PanopticJson(content, "ann.json", TABLE).records()
    found = [(p.kind, p.image_id, p.segment_ids) for p in error.value.problems]
    assert found == [("bad_field", 1, ()), ("zero_id", 2, (0,)), ("unknown_category", 2, (5,))]


def test_ids_that_differ_in_type_only_get_a_hint():
    with pytest.raises(PanopticFormatError, match="but 2 is: the types differ"):
        PanopticJson(broken("annotations/0/image_id", "2"), "ann.json", TABLE).records()


def test_missing_area_and_iscrowd_are_accepted_on_request():
    content = broken(SEGMENT + "area", None)
    del content["annotations"][0]["segments_info"][0]["iscrowd"]
    (record,) = PanopticJson(content, "ann.json", TABLE, fill_missing=True).records()
    assert record["segments_info"][0]["iscrowd"] == 0
    assert "area" not in record["segments_info"][0]


@pytest.mark.parametrize(
    "name", ["a.png", "a/b.png", "a/../b.png", "./a.png", "..a/b.png", "a..png"]
)
def test_names_inside_the_folder_are_accepted(name):
    assert is_inside(name)


@pytest.mark.parametrize(
    "name", ["..", "../a.png", "a/../../b.png", "/a.png", "C:/a.png", "..\\a.png", "a\\..\\..\\b"]
)
def test_names_outside_the_folder_are_refused(name):
    assert not is_inside(name)


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 7, "name": "grass", "isthing": 0}, {"id": 1, "name": "cow", "isthing": 1}],
        [{"id": 7, "name": "lawn", "isthing": 0}],
        [{"id": 7, "name": "grass", "isthing": 1}],
        [*CATEGORIES, {"id": 12, "name": "new", "isthing": 1}],
    ],
)
def test_categories_that_contradict_the_metainfo_are_refused(categories):
    with pytest.raises(PanopticFormatError, match=r"ann\.json") as error:
        check_categories(TABLE, categories, "ann.json")
    assert error.value.kinds == ["category_mismatch"]


def test_classes_without_a_category_are_reported():
    assert check_categories(TABLE, CATEGORIES[::-1], "ann.json") == []
    assert check_categories(TABLE, CATEGORIES[:1], "ann.json") == ["cow"]


@pytest.mark.parametrize("categories", [None, [], [{"id": 1, "name": "x"}]])
def test_unusable_categories_name_the_file(categories):
    with pytest.raises(PanopticFormatError, match=r"ann\.json"):
        read_categories(categories, "ann.json")


def test_unreadable_files_name_the_file(tmp_path):
    for name, text, kind in [
        ("none.json", None, "missing_file"),
        ("half.json", "{", "corrupt_json"),
        ("list.json", "[]", "corrupt_json"),
    ]:
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(PanopticFormatError, match=name) as error:
            load_json_object(str(tmp_path / name))
        assert error.value.kind == kind
