import copy
import json
import re

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.checking import WARNING_KINDS, check_dataset
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from . import tool
from .tool import contents

IDS = np.array([[0, 300, 300, 7], [0, 300, 70000, 7]], np.int32)
SEGMENTS = [
    {"id": 300, "category_id": 5, "iscrowd": 0, "area": 3, "bbox": [1, 0, 2, 2]},
    {"id": 7, "category_id": 0, "iscrowd": 1, "area": 2, "bbox": [3, 0, 1, 2]},
    {"id": 70000, "category_id": 0, "iscrowd": 0, "area": 1, "bbox": [2, 1, 1, 1]},
]
CATEGORIES = [
    {"id": 5, "name": "sky", "isthing": 0},
    {"id": 0, "name": "cat", "isthing": 1},
    {"id": 6, "name": "never", "isthing": 1},
]


class Dataset:
    """Two good images; tests break something."""

    def __init__(self, root):
        self.json, self.pngs = root / "panoptic_val.json", root / "panoptic_val"
        self.pngs.mkdir()
        self.images = root / "images"
        self.images.mkdir()
        images = [
            {"id": k, "file_name": f"{k}.jpg", "height": 2, "width": 4} for k in ("one", "two")
        ]
        annotations = [
            {"image_id": k, "file_name": f"{k}.png", "segments_info": copy.deepcopy(SEGMENTS)}
            for k in ("one", "two")
        ]
        self.content = {"images": images, "annotations": annotations}
        self.content["categories"] = copy.deepcopy(CATEGORIES)
        for k in ("one", "two"):
            (self.pngs / f"{k}.png").write_bytes(encode_panoptic_png(IDS))
            cv2.imwrite(str(self.images / f"{k}.jpg"), np.zeros((2, 4, 3), np.uint8))

    @property
    def segment(self):
        return self.content["annotations"][1]["segments_info"][0]

    def save(self):
        self.json.write_text(json.dumps(self.content))
        return self.json


@pytest.fixture
def data(tmp_path):
    return Dataset(tmp_path)


def png(values):
    return cv2.imencode(".png", np.asarray(values))[1].tobytes()


def change(kind):
    return {
        "missing_file": lambda d: (d.pngs / "two.png").unlink(),
        "corrupt_png": lambda d: (d.pngs / "two.png").write_bytes(encode_panoptic_png(IDS)[:-9]),
        "bad_png_mode": lambda d: (d.pngs / "two.png").write_bytes(png(np.ones((2, 4), np.uint8))),
        "size_mismatch": lambda d: d.content["images"][1].update(width=5),
        "missing_field": lambda d: d.segment.pop("category_id"),
        "bad_field": lambda d: d.segment.update(iscrowd=3),
        "bad_id": lambda d: d.segment.update(id="300"),
        "zero_id": lambda d: d.segment.update(id=0),
        "duplicate_segment_id": lambda d: d.content["annotations"][1]["segments_info"].append(
            d.segment
        ),
        "duplicate_image": lambda d: d.content["images"].append(d.content["images"][1]),
        "missing_image": lambda d: d.content["annotations"][1].update(image_id=2),
        "unsafe_path": lambda d: d.content["annotations"][1].update(file_name="../two.png"),
        "unknown_category": lambda d: d.segment.update(category_id=77),
        "wrong_area": lambda d: d.segment.update(area=2),
        "large_area": lambda d: d.segment.update(area=4),
        "wrong_box": lambda d: d.segment.update(bbox=[1, 0, 3, 2]),
        "png_id_not_in_json": lambda d: d.content["annotations"][1]["segments_info"].pop(),
        "json_id_not_in_png": lambda d: d.content["annotations"][1]["segments_info"].append(
            {"id": 9, "category_id": 0, "iscrowd": 0, "area": 0}
        ),
        "empty_annotation": lambda d: d.content.update(annotations=[]),
    }[kind]


KINDS = [
    "missing_file",
    "corrupt_png",
    "bad_png_mode",
    "size_mismatch",
    "missing_field",
    "bad_field",
    "bad_id",
    "zero_id",
    "duplicate_segment_id",
    "duplicate_image",
    "missing_image",
    "unsafe_path",
    "unknown_category",
    "wrong_area",
    "large_area",
    "wrong_box",
    "png_id_not_in_json",
    "json_id_not_in_png",
    "empty_annotation",
]


def test_good_data_has_no_problems_and_is_counted(data):
    report = check_dataset(data.save(), img_dir=data.images)
    assert report.problems == []
    assert (report.images, report.pixels, report.void) == (2, 16, 4)
    sky, cat, never = (report.counts[k] for k in range(3))
    assert (sky.images, sky.segments, sky.crowds, sky.pixels) == (2, 2, 0, 6)
    assert (cat.images, cat.segments, cat.crowds, cat.pixels) == (2, 4, 2, 6)
    assert (never.images, never.segments, never.pixels) == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_problem_is_found_with_its_file(data, kind):
    change(kind)(data)
    report = check_dataset(data.save())
    kinds = {problem.kind for problem in report.problems}
    assert kind in kinds
    for problem in report.problems:
        assert problem.file in (str(data.json), str(data.pngs / "two.png"))
    status, out, _ = tool.call("check", data.json)
    assert f"[{kind}]" in out
    assert status == (0 if kind in WARNING_KINDS else 1)


@pytest.mark.parametrize(
    ("place", "field", "value", "kind"),
    [
        ("images", "height", "2", "bad_field"),
        ("images", "file_name", 7, "bad_field"),
        ("images", "file_name", "/etc/passwd", "unsafe_path"),
        ("annotations", "file_name", None, "bad_field"),
        ("annotations", "segments_info", 5, "bad_field"),
        ("annotations", "image_id", [1], "missing_image"),
    ],
)
def test_values_of_the_wrong_type_are_problems_and_no_crash(data, place, field, value, kind):
    data.content[place][1][field] = value
    problems = check_dataset(data.save(), img_dir=data.images).problems
    assert kind in {problem.kind for problem in problems}


def test_one_broken_segment_is_one_problem(data):
    data.segment.pop("category_id")
    assert [p.kind for p in check_dataset(data.save()).problems] == ["missing_field"]


def test_all_problems_of_a_set_are_listed(data):
    data.segment.update(area=2)
    data.content["annotations"][0]["segments_info"][0]["category_id"] = 77
    (data.pngs / "two.png").write_bytes(encode_panoptic_png(np.full((2, 4), 7)))
    kinds = {(p.kind, p.image_id) for p in check_dataset(data.save(), nproc=2).problems}
    assert kinds == {
        ("unknown_category", "one"),
        ("json_id_not_in_png", "two"),
        ("wrong_area", "two"),
        ("wrong_box", "two"),
    }


@pytest.mark.parametrize("field", ["categories", "images", "annotations"])
def test_missing_lists_are_named(data, field):
    del data.content[field]
    report = check_dataset(data.save())
    assert any(field in problem.detail for problem in report.problems)


@pytest.mark.parametrize(
    ("categories", "kind"),
    [
        ([5], "bad_field"),
        ([{"id": 1, "name": "a"}], "missing_field"),
        ([{"id": 1, "name": "a", "isthing": 2}], "bad_field"),
        ({}, "missing_field"),
    ],
)
def test_bad_categories_are_reported(data, categories, kind):
    data.content["categories"] = categories
    problems = check_dataset(data.save()).problems
    assert [(p.kind, p.file) for p in problems] == [(kind, str(data.json))]
    assert tool.call("check", data.json)[0] == 1


def test_a_file_that_is_no_json_is_reported(data):
    data.json.write_text("{")
    assert tool.call("check", data.json)[0] == 1


def test_images_are_checked_where_a_folder_is_given(data):
    cv2.imwrite(str(data.images / "one.jpg"), np.zeros((4, 2, 3), np.uint8))
    (data.images / "two.jpg").unlink()
    problems = check_dataset(data.save(), img_dir=data.images).problems
    assert [(p.kind, p.image_id) for p in problems] == [
        ("size_mismatch", "one"),
        ("missing_file", "two"),
    ]


def test_fix_repairs_what_has_one_right_value(data, tmp_path):
    good = copy.deepcopy(data.content)
    data.segment.update(area=1, bbox=[0, 0, 9, 9])
    data.content["annotations"][0]["segments_info"][1].pop("area")
    data.content["annotations"][0]["segments_info"][0].pop("iscrowd")
    data.save()
    before = contents(tmp_path)
    out = tmp_path / "fixed.json"
    status, text, _ = tool.call("check", data.json, "--fix", out)
    assert status == 0
    assert "0 errors and 0 warnings are left" in text
    assert json.loads(out.read_text()) == good
    assert {k: v for k, v in contents(tmp_path).items() if k != "fixed.json"} == before


def test_fix_leaves_what_is_ambiguous_and_says_so(data, tmp_path):
    data.segment.update(category_id=77, area=1)
    status, text, _ = tool.call("check", data.save(), "--fix", tmp_path / "fixed.json")
    assert status == 1
    assert "1 errors" in text


def test_fix_does_not_overwrite_the_dataset(data):
    status, _, error = tool.call("check", data.save(), "--fix", data.json)
    assert status == 1
    assert "would be overwritten" in error


def test_the_number_of_processes_changes_nothing(data):
    change("wrong_area")(data)
    data.save()
    assert check_dataset(data.json, nproc=2) == check_dataset(data.json, nproc=1)


def test_predictions_are_checked_too(data, tmp_path):
    data.save()
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred" / "one.png").write_bytes(encode_panoptic_png(IDS))
    content = {"annotations": [{**data.content["annotations"][0], "segments_info": SEGMENTS[:2]}]}
    (tmp_path / "pred.json").write_text(json.dumps(content))
    status, text, _ = tool.call("check", data.json, "--prediction", tmp_path / "pred.json")
    assert status == 1
    assert "[missing_prediction] image 'two'" in text
    assert "[png_id_not_in_json] image 'one'" in text


def test_all_problems_can_be_written_to_a_file(data, tmp_path):
    change("wrong_area")(data)
    tool.call("check", data.save(), "--json", tmp_path / "r.json", "--max-shown", 0)
    problems = json.loads((tmp_path / "r.json").read_text())["problems"]
    assert [p["kind"] for p in problems] == ["wrong_area"]
    assert problems[0]["segment_ids"] == [300]


def test_images_without_annotation_are_a_warning(data):
    data.content["annotations"].pop()
    status, text, _ = tool.call("check", data.save(), "--img-dir", data.images)
    assert status == 0
    assert "[unannotated_image] image 'two': the image has no annotation" in text
    assert "images without annotation (never used): 1 of 2" in text


def test_images_without_segments_are_an_error_with_a_way_out(data):
    data.content["annotations"][1]["segments_info"] = []
    (data.pngs / "two.png").write_bytes(encode_panoptic_png(np.zeros_like(IDS)))
    status, text, _ = tool.call("check", data.save())
    assert status == 1
    assert "[empty_annotation] image 'two': the image has no segments" in text
    assert "on_error=skip" in text


def test_the_balance_of_a_dataset_is_shown(data):
    data.content["categories"][0]["isthing"] = 1  # sky
    data.content["categories"][1]["isthing"] = 0  # cat
    for annotation in data.content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = 0
    data.content["annotations"][1]["segments_info"].pop(0)
    (data.pngs / "two.png").write_bytes(encode_panoptic_png(np.where(IDS == 300, 0, IDS)))
    text = tool.call("check", data.save())[1]
    assert re.search(
        r"\| sky +\| +5 \| thing \| +1 \| +1 \| +0 \| +18.75 \| 3, 3, 3, 3, 3 \|", text
    )
    assert "unlabelled: 43.75 % of the pixels" in text
    assert "images without a thing: 1 of 2" in text
    assert "without stuff" not in text
    assert "classes without a segment: never" in text
    assert "the images were not looked at" in text


def test_a_page_shows_the_worst_and_other_images(data, tmp_path):
    data.segment.update(area=1)
    (data.images / "one.jpg").unlink()
    args = ("check", data.save(), "--img-dir", data.images, "--html", tmp_path / "page")
    status, text, _ = tool.call(*args)
    assert status == 1
    assert f"wrote {tmp_path / 'page' / 'index.html'}" in text
    page = (tmp_path / "page" / "index.html").read_text()
    assert "1 problems (wrong_area), 25 % unlabelled" in page
    assert "1 problems (missing_file), 25 % unlabelled" in page
    pictures = sorted((tmp_path / "page" / "images").iterdir())
    assert [cv2.imread(str(path)).shape for path in pictures] == [(2, 4, 3)] * 2
    data.content["annotations"] = []
    assert "there is no image to draw" in tool.call(*args[:1], data.save(), *args[2:])[2]


BOX = {"segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]], "bbox": [0, 0, 3, 2], "area": 6, "iscrowd": 0}


def write_instances(path, **changes):
    base = {"image_id": 1, "category_id": 1, **BOX}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 5}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 2, **base}, {"id": 1, **base, **changes}],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "1"}, "must be a whole number from 1 on"),
        ({"id": 2}, "used twice"),
        ({"image_id": 9}, "image_id 9 is not among the images: 1"),
        ({"image_id": "1"}, "but 1 is: the types differ"),
        ({"category_id": 9}, "category_id 9 is not among the categories"),
        ({"iscrowd": None}, "iscrowd must be 0 or 1, got None"),
        ({"segmentation": [[1, 2, 3, 4]]}, "at least three points"),
        ({"segmentation": {"size": [4, 5], "counts": [3, 4]}}, "add up to 7"),
        ({"bbox": None}, "bbox must be numbers"),
        ({"area": "6"}, "area must be numbers"),
    ],
)
def test_instance_files_are_checked(tmp_path, changes, message):
    status, text, _ = tool.call("check", write_instances(tmp_path / "i.json", **changes))
    assert status == 1
    assert message in text
    assert "annotations[1]" in text


def test_annotation_id_0_of_an_instance_file_is_a_warning(tmp_path):
    status, text, _ = tool.call("check", write_instances(tmp_path / "i.json", id=0))
    assert status == 0
    assert "[zero_annotation]" in text
    assert "6, 6, 6, 6, 6" in text  # sizes of the two instances
