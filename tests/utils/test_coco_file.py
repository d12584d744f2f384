import copy
import json

import pytest

from mmpanoptic.utils.coco_file import InstanceJson, load_json, load_json_object
from mmpanoptic.utils.format_errors import PanopticFormatError

SQUARE = [[10.0, 5.0, 30.0, 5.0, 30.0, 15.0, 10.0, 15.0]]
GOOD = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "height": 48, "width": 64},
        {"id": "b", "file_name": "sub/b.jpg", "height": 48, "width": 64},
    ],
    "categories": [{"id": 1, "name": "car"}, {"id": 7, "name": "road"}],
    "annotations": [
        {"id": 17, "image_id": 1, "category_id": 1, "segmentation": SQUARE, "iscrowd": 0},
        {"id": 4, "image_id": "b", "category_id": 7, "segmentation": SQUARE, "area": 3},
    ],
}


def parse(change=None, **options):
    content = copy.deepcopy(GOOD)
    if change is not None:
        change(content)
    reader = InstanceJson(content, "file.json", **options)
    return reader, reader.parse()


def set_field(place, field, value, position=0):
    return lambda content: content[place][position].update({field: value})


def drop(place, field, position=0):
    return lambda content: content[place][position].pop(field)


def test_good_files_are_read():
    reader, annotations = parse()
    assert reader.problems == []
    assert [(a["id"], a["iscrowd"], a["position"]) for a in annotations] == [(17, 0, 0), (4, 0, 1)]
    assert annotations[1]["area"] == 3
    assert reader.names == {(int, 1): "car", (int, 7): "road"}
    assert reader.content["annotations"][0] == GOOD["annotations"][0]


BAD = {
    "image null": (lambda c: c["images"].append(None), "bad_field", "images[2] must be an object"),
    "no image id": (drop("images", "id"), "missing_field", "images[0] lacks id"),
    "image id null": (set_field("images", "id", None), "bad_field", "(id None).id must be"),
    "image id list": (
        set_field("images", "id", [1]),
        "bad_field",
        "must be a whole number or text",
    ),
    "image id fraction": (set_field("images", "id", 1.0), "bad_field", "got 1.0"),
    "image id truth": (set_field("images", "id", True), "bad_field", "got True"),
    "same image id": (
        set_field("images", "id", 1, 1),
        "duplicate_image",
        "images[1] (id 1): the id 1 is used twice, by 'a.jpg' and 'sub/b.jpg'",
    ),
    "no height": (drop("images", "height"), "missing_field", "images[0] (id 1) lacks height"),
    "height text": (set_field("images", "height", "48"), "bad_field", "height must be a whole"),
    "height fraction": (set_field("images", "height", 48.0), "bad_field", "got 48.0"),
    "width 0": (set_field("images", "width", 0), "bad_field", "1..1048576, got 0"),
    "width beyond OpenCV": (set_field("images", "width", 10**7), "bad_field", "got 10000000"),
    "area beyond OpenCV": (
        lambda c: c["images"][0].update(height=1 << 16, width=1 << 16),
        "bad_field",
        "images[0] (id 1) has 4294967296 pixels; OpenCV reads images of up to 1073741824",
    ),
    "file name with NUL": (set_field("images", "file_name", "a\0"), "bad_field", "got 'a\\x00'"),
    "half a character": (set_field("images", "file_name", "\ud800"), "bad_field", "file name"),
    "no file name": (drop("images", "file_name"), "missing_field", "lacks file_name"),
    "empty file name": (set_field("images", "file_name", " "), "bad_field", "must be a file name"),
    "file name null": (set_field("images", "file_name", None), "bad_field", "got None"),
    "file name leads out": (set_field("images", "file_name", "..\\a"), "unsafe_path", "leads out"),
    "absolute": (set_field("images", "file_name", "C:/a.jpg"), "unsafe_path", "leads out"),
    "category null": (
        lambda c: c["categories"].append(None),
        "bad_field",
        "categories[2] must be an object",
    ),
    "no category id": (drop("categories", "id"), "missing_field", "categories[0] lacks id"),
    "no category name (its id is lost)": (
        drop("categories", "name"),
        "missing_field",
        "(id 1) lacks name",
    ),
    "category name null (its id is lost)": (
        set_field("categories", "name", None),
        "bad_field",
        "name must be text",
    ),
    "category id text": (set_field("categories", "id", "1"), "bad_field", "got '1'"),
    "same category id": (
        set_field("categories", "id", 1, 1),
        "duplicate_category",
        "the id 1 is used twice, by 'car' and 'road'",
    ),
    "annotation null": (lambda c: c["annotations"].append(None), "bad_field", "annotations[2]"),
    "no category": (drop("annotations", "category_id"), "missing_field", "lacks category_id"),
    "category of another type": (
        set_field("annotations", "category_id", "1"),
        "unknown_category",
        "annotations[0] (id 17).category_id '1' is not among the categories, but 1 is: the types",
    ),
    "unknown category": (
        set_field("annotations", "category_id", 3),
        "unknown_category",
        "category_id 3 is not among the categories: 1, 7",
    ),
    "category list": (set_field("annotations", "category_id", [1]), "unknown_category", "[1]"),
    "unknown image": (
        set_field("annotations", "image_id", 9),
        "missing_image",
        "image_id 9 is not",
    ),
    "image of another type": (
        set_field("annotations", "image_id", "1"),
        "missing_image",
        "image_id '1' is not among the images, but 1 is: the types differ (number and text)",
    ),
    "image list": (set_field("annotations", "image_id", [1]), "missing_image", "image_id [1]"),
    "crowd 2": (
        set_field("annotations", "iscrowd", 2),
        "bad_field",
        "iscrowd must be 0 or 1, got 2",
    ),
    "crowd text": (set_field("annotations", "iscrowd", "0"), "bad_field", "got '0'"),
    "crowd null": (set_field("annotations", "iscrowd", None), "bad_field", "got None"),
    "no mask": (drop("annotations", "segmentation", 1), "missing_field", "a mask is due"),
    "mask null": (set_field("annotations", "segmentation", None), "bad_segmentation", "is None"),
    "short code": (
        set_field("annotations", "segmentation", {"size": [48, 64], "counts": [100, 50]}),
        "bad_segmentation",
        "annotations[0] (id 17).segmentation has counts that add up to 150",
    ),
    "no id": (drop("annotations", "id"), "missing_field", "annotations[0] lacks id"),
    "id text": (set_field("annotations", "id", "17"), "bad_id", "from 1 on, got '17'"),
    "id null": (set_field("annotations", "id", None), "bad_id", "got None"),
    "same id": (
        set_field("annotations", "id", 4),
        "duplicate_annotation",
        "the id 4 is used twice",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_problem_names_file_entry_and_value(name):
    change, kind, detail = BAD[name]
    reader, _ = parse(change)
    # An entry without a usable id leaves references to it behind.
    assert reader.problems[0].kind == kind
    others = {problem.kind for problem in reader.problems[1:]}
    assert others <= ({"missing_image", "unknown_category"} if "id" in name else set())
    assert detail in reader.problems[0].detail
    assert reader.problems[0].file == "file.json"
    with pytest.raises(PanopticFormatError, match=r"file\.json"):
        reader.raise_problems()


FOREIGN = {
    "crowd null": set_field("annotations", "iscrowd", None),
    "no id": drop("annotations", "id"),
    "id text": set_field("annotations", "id", "x"),
    "same id": set_field("annotations", "id", 4),
    "no height": drop("images", "height"),
    "height null": set_field("images", "height", None),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_exports_may_lack_what_a_conversion_does_not_need(name):
    reader, annotations = parse(FOREIGN[name], foreign=True)
    assert reader.problems == []
    assert [annotation["iscrowd"] for annotation in annotations] == [0, 0]
    assert parse(FOREIGN[name])[0].problems


def test_text_ids_of_an_export_meet_each_other():
    def change(content):
        content["categories"][0]["id"] = "1"
        content["annotations"][0]["category_id"] = "1"

    reader, annotations = parse(change, foreign=True)
    assert reader.problems == []
    assert len(annotations) == 2


def test_all_problems_are_collected():
    def change(content):
        content["images"][0]["height"] = 0
        content["annotations"][1]["segmentation"] = []
        content["annotations"].append({"id": 5, "image_id": "b", "category_id": 9})

    reader, annotations = parse(change)
    kinds = [problem.kind for problem in reader.problems]
    # The annotation of the broken image is no problem of its own, but cannot be used either.
    assert kinds == ["bad_field", "bad_segmentation", "unknown_category", "missing_field"]
    assert annotations == []


@pytest.mark.parametrize("field", ["images", "categories", "annotations"])
def test_a_missing_list_is_one_problem(field):
    reader, _ = parse(lambda content: content.pop(field))
    assert [p.detail for p in reader.problems] == [f"the file has no list {field!r}"]


def test_boxes_need_no_masks():
    assert parse(drop("annotations", "segmentation"), masks=False)[0].problems == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_no_problem(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps({"name": "Bär"}, ensure_ascii=False).encode(encoding))
    assert load_json(path) == {"name": "Bär"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"{", "corrupt_json"), (b"\xff\x00\xfe", "corrupt_json"), (b"[]", "corrupt_json")],
)
def test_what_is_no_object_is_said(tmp_path, content, kind):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PanopticFormatError, match=r"a\.json") as caught:
        load_json_object(tmp_path / "a.json")
    assert caught.value.kind == kind
    with pytest.raises(PanopticFormatError, match="run the maker") as caught:
        load_json_object(tmp_path / "b.json", "run the maker")
    assert caught.value.kind == "missing_file"


def test_endless_nesting_is_no_crash(tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(PanopticFormatError, match="nested too deep"):
        load_json(tmp_path / "a.json")
