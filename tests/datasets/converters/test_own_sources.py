"""own_data.py with labels of every kind: what is taken, what is refused, what is told."""

import base64
import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.datasets.converters.balance import FATES
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from . import tool
from .tool import contents

CLASSES = """
classes:
  - {name: road, value: 1, thing: false}
  - {name: car, value: 7, thing: true, labels: [taxi, Van]}
  - {name: animal, value: 8, thing: true, supercategories: [pet]}
ignore: [sky, 255]
"""
SMALL, BIG = [10, 5, 30, 5, 30, 15, 10, 15], [0, 0, 60, 0, 60, 40, 0, 40]
OTHER = [40, 20, 60, 20, 60, 40, 40, 40]


def photo(path, size=(64, 48), orientation=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path, exif=exif)
    return path


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def annotation(number=1, polygon=SMALL, category=1, image=1, **fields):
    base = {"id": number, "image_id": image, "category_id": category, "segmentation": [polygon]}
    return {**base, "iscrowd": 0, **fields}


def coco(*annotations, **fields):
    images = [{"id": 1, "file_name": "a.jpg", "height": 48, "width": 64}]
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "road"}]
    return {"images": images, "categories": categories, "annotations": annotations, **fields}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "classes.yaml").write_text(CLASSES)
    photo(tmp_path / "img" / "a.jpg")
    return tmp_path


def convert(root, *args, out="out", images="img"):
    base = [root / out, "--classes", root / "classes.yaml", "--images", root / images]
    return tool.call("own_data", *base, *args, "--nproc", 1)


def convert_coco(root, content, *args, **names):
    (root / "i.json").write_text(json.dumps(content))
    return convert(root, "--coco", root / "i.json", *args, **names)


def load(root, split="train", out="out"):
    return json.loads((root / out / "annotations" / f"panoptic_{split}.json").read_text())


def segments(root, position=0, **names):
    found = load(root, **names)["annotations"][position]["segments_info"]
    return [(s["category_id"], s["iscrowd"], s["area"]) for s in found]


def balance(text, words):
    """Read a row of the balance: things, stuff, others."""
    row = re.search(rf"^ +{re.escape(words)} +(\d.*)$", text, re.M)[1]
    return [int(number) for number in row.split()]


# ---- COCO: what becomes of instances ---------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_a_small_instance_on_a_large_one_is_kept_whatever_the_order(root, reverse):
    both = [annotation(1, SMALL), annotation(2, BIG)]
    status, text, _ = convert_coco(root, coco(*(both[::-1] if reverse else both)))
    assert status == 0
    assert sorted(segments(root)) == [(7, 0, 200), (7, 0, 2200)]
    assert balance(text, "kept") == [2, 0]
    assert balance(text, "covered wholly by others") == [0, 0]


def test_whole_things_keep_what_others_hide(root):
    road = annotation(3, OTHER, category=2)
    content = coco(annotation(1, BIG), annotation(2, SMALL), road)
    status, text, _ = convert_coco(root, content, "--whole-things")
    assert status == 0
    assert "instances_train: 1 images" in text
    found = json.loads((root / "out" / "annotations" / "instances_train.json").read_text())
    assert [category["name"] for category in found["categories"]] == ["car", "animal"]
    assert [(a["category_id"], a["area"]) for a in found["annotations"]] == [(7, 2400), (7, 200)]
    assert [a["bbox"] for a in found["annotations"]] == [[0, 0, 60, 40], [10, 5, 20, 10]]
    paths = [
        root / "out" / "annotations" / f"{kind}_train.json" for kind in ("instances", "panoptic")
    ]
    assert tool.call("coco_relations", *paths, "--matching", "iou")[0] == 0
    related = json.loads(paths[0].with_stem("instances_train_with_relation").read_text())
    assert [a["overlap"] for a in related["annotations"]] == [[2], []]


def test_label_maps_have_no_whole_things(root):
    save(root / "labels" / "a.png", np.full((48, 64), 7, np.uint8))
    status, _, text = convert(root, "--labels", root / "labels", "--whole-things")
    assert status == 2
    assert "--whole-things" in text


def test_what_is_covered_is_counted_named_and_warned_of(root):
    content = coco(annotation(5, SMALL), annotation(6, BIG))
    status, text, _ = convert_coco(root, content, "--overlap", "last")
    assert status == 0
    assert segments(root) == [(7, 0, 2400)]
    assert balance(text, "in") == [2, 0]
    assert balance(text, "kept") == [1, 0]
    assert balance(text, "covered wholly by others") == [1, 0]
    assert "things, covered wholly by others: annotation 5 of a.jpg" in text
    assert "warning: 1 of 2 things (50.0 %) are lost" in text
    again = convert_coco(root, content, "--overlap", "last")[1]
    assert "(0 converted now)" in again
    assert balance(again, "covered wholly by others") == [1, 0]


def test_a_loss_of_one_percent_is_no_warning(root):
    dots = [annotation(n, [n, 0, n + 1, 0, n + 1, 1, n, 1]) for n in range(50)]
    dots += [annotation(n, [n - 50, 2, n - 49, 2, n - 49, 3, n - 50, 3]) for n in range(50, 100)]
    outside = annotation(100, [70, 0, 80, 0, 80, 9, 70, 9])
    text = convert_coco(root, coco(*dots[:99], outside))[1]
    assert balance(text, "outside the image") == [1, 0]
    assert "lost" not in text
    text = convert_coco(root, coco(*dots[:98], outside))[1]
    assert "warning: 1 of 99 things (1.0 %) are lost" in text


def test_every_fate_has_its_row(root):
    content = coco(
        annotation(1),
        annotation(2, BIG, iscrowd=1),
        annotation(3, [70, 0, 80, 0, 80, 9, 70, 9]),
        annotation(4, [5, 5, 5.1, 5, 5.1, 5.1]),
        annotation(5, [7, 7, 9, 9, 8, 8]),
        annotation(6, SMALL, category=3),
        annotation(7, OTHER, category=2),
    )
    content["categories"].append({"id": 3, "name": "sky"})
    status, text, _ = convert_coco(root, content)
    assert status == 0
    rows = {
        "in": [5, 1, 1],
        "kept": [1, 1, 0],
        "kept as crowd": [1, 0, 0],
        "below one pixel": [2, 0, 0],
        "outside the image": [1, 0, 0],
        "class ignored": [0, 0, 1],
    }
    for words, expected in rows.items():
        assert balance(text, words) == expected
    assert "images: 1 in, 1 out" in text
    assert "things, below one pixel: annotation 4 of a.jpg, annotation 5 of a.jpg" in text


@pytest.mark.parametrize("crowd_first", [False, True])
def test_a_crowd_does_not_wipe_the_instances_in_it(root, crowd_first):
    both = [annotation(1), annotation(2, BIG, iscrowd=1)]
    assert convert_coco(root, coco(*(both[::-1] if crowd_first else both)))[0] == 0
    assert sorted(segments(root)) == [(7, 0, 200), (7, 1, 2200)]


@pytest.mark.parametrize(
    ("crowds", "expected"),
    [("keep", [(7, 1, 200)]), ("instances", [(7, 0, 200)])],
)
def test_crowds_are_taken_as_asked(root, crowds, expected):
    status, text, _ = convert_coco(root, coco(annotation(iscrowd=1)), "--crowds", crowds)
    assert status == 0
    assert segments(root) == expected
    warned = "all annotations of the thing class car are crowd" in text
    assert warned == (crowds == "keep")
    assert ("--crowds instances" in text) == warned
    checked = tool.call("check", root / "out" / "annotations" / "panoptic_train.json")[1]
    assert ("segments of car are crowd" in checked) == warned


def test_crowds_can_be_left_out(root):
    content = coco(annotation(1), annotation(2, OTHER, iscrowd=1))
    text = convert_coco(root, content, "--crowds", "ignore")[1]
    assert segments(root) == [(7, 0, 200)]
    assert balance(text, "crowd, left out") == [1, 0]


# ---- COCO: forms and faults of files ----------------------------------------------------------


@pytest.mark.parametrize(
    "segmentation",
    [SMALL, [[10, 5], [30, 5], [30, 15], [10, 15]], [[[10, 5], [30, 5], [30, 15], [10, 15]]]],
)
def test_polygons_in_other_forms_are_understood(root, segmentation):
    assert convert_coco(root, coco(annotation(segmentation=segmentation)))[0] == 0
    assert segments(root) == [(7, 0, 200)]


def test_problems_of_all_images_and_kinds_are_listed_at_once(root):
    photo(root / "img" / "b.jpg", (32, 24))
    content = coco(
        annotation(1, [1, 1, 2, 2]),
        annotation(2, segmentation=[]),
        annotation(3, segmentation=None),
        annotation(4, category=9),
        annotation(5, [float("nan"), 1, 2, 2, 3, 3]),
        {"id": 6, "image_id": 1, "category_id": 1},
        annotation(7, image=2),
    )
    content["images"].append({"id": 2, "file_name": "b.jpg", "height": 48, "width": 64})
    status, _, error = convert_coco(root, content, "--report", root / "report.json")
    assert status == 1
    assert error.count("[bad_segmentation] image 1: annotations[") == 4
    for words in (
        "annotations[0] (id 1).segmentation has a polygon of 2 points",
        "annotations[3] (id 4).category_id 9 is not among the categories: 1 (car), 2 (road)",
        "annotations[5] (id 6) lacks segmentation",
        "not finite",
        "[size_mismatch] image 2: ",
    ):
        assert words in error
    problems = json.loads((root / "report.json").read_text())["problems"]
    assert len(problems) == 7
    assert {p["file"] for p in problems} == {str(root / "i.json")}
    assert all(p["way_out"] for p in problems)
    assert not (root / "out").exists()


def test_at_most_twenty_problems_of_a_kind_are_shown(root):
    broken = [annotation(n, [1, 1, 2, 2]) for n in range(25)]
    lacking = {"id": 99, "image_id": 1, "category_id": 1}
    error = convert_coco(root, coco(*broken, lacking), "--report", root / "r.json")[2]
    assert error.count("[bad_segmentation]") == 20
    assert "and 5 more of the kind bad_segmentation" in error
    assert "bad_segmentation x 25: " in error
    assert "[missing_field]" in error
    assert len(json.loads((root / "r.json").read_text())["problems"]) == 26


def test_an_unknown_class_is_one_problem_with_what_to_do(root):
    content = coco(*(annotation(n) for n in range(5)))
    content["categories"][0]["name"] = "CAR"
    status, _, error = convert_coco(root, content)
    assert status == 1
    assert error.count("[unknown_class]") == 1
    assert "5 labels, first annotations[0] (id 0): the class 'CAR' is not in" in error
    assert "(written 'car' there), which has: road, car, animal" in error
    assert "name it under ignore" in error


def test_classes_have_other_names_and_supercategories(root):
    names = [("taxi", None), ("Van", None), ("cat", "pet"), ("dog", "pet")]
    categories = [
        {"id": n, "name": name, "supercategory": group} for n, (name, group) in enumerate(names)
    ]
    shapes = [annotation(n, [8 * n, 0, 8 * n + 4, 0, 8 * n + 4, 4, 8 * n, 4], n) for n in range(4)]
    assert convert_coco(root, coco(*shapes, categories=categories))[0] == 0
    assert [s[0] for s in segments(root)] == [7, 7, 8, 8]


@pytest.mark.parametrize(
    ("size", "orientation", "words"),
    [((32, 24), 1, "says 64 x 48"), ((64, 48), 6, "EXIF orientation 6")],
)
def test_an_image_of_another_size_is_refused(root, size, orientation, words):
    photo(root / "img" / "a.jpg", size, orientation)
    status, _, error = convert_coco(root, coco(annotation()))
    assert status == 1
    assert "[size_mismatch]" in error
    assert words in error


@pytest.mark.parametrize(
    ("name", "place"),
    [("sub\\a.jpg", "sub/a.jpg"), ("old/place/a.jpg", "a.jpg"), ("./sub/a.jpg", "sub/a.jpg")],
)
def test_images_are_found_by_path_or_by_name(root, name, place):
    (root / "img" / "a.jpg").rename(root / "a.jpg")
    photo(root / "img" / place)
    content = coco(annotation())
    content["images"][0]["file_name"] = name
    assert convert_coco(root, content)[0] == 0
    assert load(root)["images"][0]["file_name"] == place


def test_images_beside_the_json_come_first(root):
    for part in ("train", "test"):
        photo(root / "img" / part / "a.jpg")
        (root / "img" / part / "i.json").write_text(json.dumps(coco(annotation())))
    (root / "img" / "a.jpg").unlink()
    files = [root / "img" / part / "i.json" for part in ("train", "test")]
    lists = ["--split-list", f"val={files[1]}"]
    assert convert(root, "--coco", *files, *lists)[0] == 0
    assert [image["id"] for image in load(root)["images"]] == ["train/a"]
    assert [image["id"] for image in load(root, "val")["images"]] == ["test/a"]


def test_a_name_of_several_images_is_refused(root):
    (root / "img" / "a.jpg").unlink()
    for part in "xy":
        photo(root / "img" / part / "a.jpg")
    status, _, error = convert_coco(root, coco(annotation()))
    assert status == 1
    assert "2 images have the name" in error
    assert "file_name 'a.jpg'" in error


def test_a_missing_image_is_named_as_written(root):
    content = coco(annotation())
    content["images"][0]["file_name"] = "sub\\q.jpg"
    error = convert_coco(root, content)[2]
    assert "[missing_file] image 1: images[0] (id 1).file_name 'sub\\\\q.jpg'" in error
    assert "backslash" in error


def test_one_file_listed_as_two_images_is_refused(root):
    content = coco(annotation())
    content["images"].append({**content["images"][0], "id": 2})
    status, _, error = convert_coco(root, content)
    assert status == 1
    assert "[duplicate_image] image 2: images[1] (id 2).file_name 'a.jpg'" in error
    assert "is the file of the image 1, too" in error


def test_a_panoptic_json_is_recognized(root):
    content = coco({"image_id": 1, "file_name": "a.png", "segments_info": []})
    status, _, error = convert_coco(root, content)
    assert status == 1
    assert "is a panoptic JSON already" in error


def test_a_pair_of_instances_and_stuff_is_put_together(root):
    stuff = coco(
        annotation(50, BIG, category=148),
        annotation(51, SMALL, category=183),
        categories=[{"id": 148, "name": "road"}, {"id": 183, "name": "other"}],
    )
    stuff["images"][0]["id"] = 77
    for entry in stuff["annotations"]:
        entry["image_id"] = 77
    (root / "stuff.json").write_text(json.dumps(stuff))
    (root / "i.json").write_text(json.dumps(coco(annotation())))
    pair = ["--coco", root / "i.json", root / "stuff.json"]
    assert "the class 'other' is not in" in convert(root, *pair)[2]
    for ignored in ("183", "other"):
        status, text, _ = convert(root, *pair, "--ignore-category", ignored, out=f"o{ignored}")
        assert status == 0
        assert segments(root, out=f"o{ignored}") == [(1, 0, 2200), (7, 0, 200)]
        assert balance(text, "class ignored") == [0, 0, 1]
    status, _, error = convert(root, *pair, "--ignore-category", "183", "sea", out="o3")
    assert status == 1
    assert "--ignore-category 'sea' is not among the categories" in error


# ---- labelme ----------------------------------------------------------------------------------


def labelme(root, *shapes, path="lab/a.json", **fields):
    head = {"imagePath": "../img/a.jpg", "imageHeight": 48, "imageWidth": 64}
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**head, "shapes": shapes, **fields}))
    return file


CORNERS = [[10, 5], [30, 5], [30, 15], [10, 15]]


@pytest.mark.parametrize(
    ("kind", "points", "area"),
    [
        ("polygon", CORNERS, 200),
        (None, CORNERS, 200),
        ("rectangle", [[10, 5], [30, 15]], 200),
        ("rectangle", [[30, 15], [10, 5]], 200),
        ("rectangle", CORNERS, 200),
        ("rotation", CORNERS, 200),
        ("circle", [[32, 24], [42, 24]], 314),
    ],
)
def test_shapes_of_labelme_and_its_successors_are_drawn(root, kind, points, area):
    labelme(root, {"label": "car", "shape_type": kind, "points": points})
    assert convert(root, "--labelme", root / "lab")[0] == 0
    ((category, crowd, pixels),) = segments(root)
    assert (category, crowd) == (7, 0)
    assert abs(pixels - area) <= (10 if kind == "circle" else 0)


def test_masks_are_pasted_and_cut_at_the_edges(root):
    patch = cv2.imencode(".png", np.full((4, 6), 255, np.uint8))[1].tobytes()
    shape = {"label": "car", "shape_type": "mask", "mask": base64.b64encode(patch).decode()}
    places = [[0, 0], [-2, -1], [60, 46]]
    shapes = [{**shape, "points": [place, [place[0] + 5, place[1] + 3]]} for place in places]
    for place, area in zip(shapes, (24, 12, 8), strict=True):
        labelme(root, place)
        assert convert(root, "--labelme", root / "lab")[0] == 0
        assert segments(root) == [(7, 0, area)]
    labelme(root, {**shape, "points": [[100, 100]]}, shapes[0])
    text = convert(root, "--labelme", root / "lab")[1]
    assert balance(text, "outside the image") == [1, 0]


BAD_SHAPES = {
    "points null": ({"points": None}, "points must be a list of [x, y]"),
    "points flat": ({"points": [1, 2, 3, 4]}, "points must be a list of [x, y]"),
    "points nan": ({"points": [[float("nan"), 1], [2, 2], [3, 1]]}, "finite numbers"),
    "two points": ({"points": [[1, 2], [3, 4]]}, "at least three points, got 2"),
    "far": ({"points": [[1, 2], [1e7, 4], [3, 3]]}, "far outside"),
    "circle": ({"shape_type": "circle", "points": [[1, 1]]}, "a circle has 2 points, got 1"),
    "rectangle": (
        {"shape_type": "rectangle", "points": CORNERS[:3]},
        "a rectangle has 2 or 4 points, got 3",
    ),
    "line": ({"shape_type": "line"}, "shape_type 'line' has no area; known: polygon"),
    "type list": ({"shape_type": ["line"]}, "has no area"),
    "mask null": ({"shape_type": "mask", "mask": None}, "mask must be a PNG in base64, got None"),
    "mask no png": ({"shape_type": "mask", "mask": "AAAA"}, "the mask is no PNG"),
    "label null": ({"label": None}, "label must be text, got None"),
}


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_broken_shapes_are_named_with_number_and_field(root, name):
    change, words = BAD_SHAPES[name]
    labelme(
        root, {"label": "car", "points": CORNERS}, {"label": "car", "points": CORNERS, **change}
    )
    status, _, error = convert(root, "--labelme", root / "lab")
    assert status == 1
    assert "[bad_shape] " in error
    assert "shapes[1]" in error
    assert words in error
    assert "a.json" in error


@pytest.mark.parametrize("content", ["null", "[]", "3"])
def test_shapes_must_be_objects(root, content):
    labelme(root, json.loads(content))
    status, _, error = convert(root, "--labelme", root / "lab")
    assert status == 1
    assert "shapes[0] must be an object" in error


def test_other_files_in_the_folder_are_passed_over(root):
    labelme(root, {"label": "car", "points": CORNERS})
    (root / "lab" / "labels.json").write_text('["car"]')
    (root / "lab" / "flags.json").write_text('{"flags": {}}')
    (root / "lab" / "._a.json").write_bytes(b"\x00\x05\x16\x07")
    assert convert(root, "--labelme", root / "lab")[0] == 0
    (root / "lab" / "b.json").write_text("{")
    status, _, error = convert(root, "--labelme", root / "lab")
    assert status == 1
    assert "[corrupt_json]" in error
    assert "b.json" in error


@pytest.mark.parametrize(
    ("written", "file", "image"),
    [
        ("../img/sub/a.jpg", "lab/a.json", "sub/a.jpg"),
        ("sub/a.jpg", "lab/a.json", "sub/a.jpg"),
        ("..\\img\\sub\\a.jpg", "lab/a.json", "sub/a.jpg"),
        ("C:\\photos\\a.jpg", "lab/sub/a.json", "sub/a.jpg"),
        ("a.jpg", "lab/x/a.json", "x/a.jpg"),
    ],
)
def test_image_paths_are_followed(root, written, file, image):
    (root / "img" / "a.jpg").unlink()
    photo(root / "img" / "other" / "a.jpg")
    photo(root / "img" / image)
    if "/x/" not in file:
        (root / "img" / "other" / "a.jpg").unlink()
    labelme(root, {"label": "car", "points": CORNERS}, path=file, imagePath=written)
    assert convert(root, "--labelme", root / "lab")[0] == 0
    assert load(root)["images"][0]["file_name"] == image


@pytest.mark.parametrize("written", ["nothing.jpg", None, ["a.jpg"], ""])
def test_an_image_that_is_not_there_is_named_with_its_field(root, written):
    labelme(root, {"label": "car", "points": CORNERS}, imagePath=written)
    status, _, error = convert(root, "--labelme", root / "lab")
    assert status == 1
    assert "imagePath" in error
    assert repr(written) in error
    assert "a.json" in error


def test_sizes_of_labelme_files_are_compared(root):
    labelme(root, {"label": "car", "points": CORNERS}, imageHeight=64, imageWidth=48)
    assert "height and width are exchanged" in convert(root, "--labelme", root / "lab")[2]
    labelme(root, {"label": "car", "points": CORNERS}, imageHeight="48")
    assert "whole numbers, 1.." in convert(root, "--labelme", root / "lab")[2]


def test_two_files_of_one_image_are_refused(root):
    for name in "ab":
        labelme(root, {"label": "car", "points": CORNERS}, path=f"lab/{name}.json")
    status, _, error = convert(root, "--labelme", root / "lab")
    assert status == 1
    assert "[duplicate_image]" in error


# ---- mask folders -----------------------------------------------------------------------------


def nuclei(root, names=("one", "two"), pattern="masks/{}.png"):
    (root / "classes.yaml").write_text("[{name: cell, thing: 1}, {name: back, thing: 0}]")
    (root / "img" / "a.jpg").unlink()
    for name in names:
        photo(root / "img" / name / "images" / f"{name}.png")
        for number in range(3):
            mask = np.zeros((48, 64), np.uint8)
            mask[4 * number : 4 * number + 2, :10] = 255
            save(root / "img" / name / pattern.format(number), mask)


def test_mask_folders_are_converted(root):
    nuclei(root)
    status, text, _ = convert(root, "--masks", root / "img", "--background", "back")
    assert status == 0
    content = load(root)
    assert [image["file_name"] for image in content["images"]] == [
        "one/images/one.png",
        "two/images/two.png",
    ]
    assert segments(root) == [(1, 0, 20)] * 3 + [(2, 0, 48 * 64 - 60)]
    assert balance(text, "kept") == [6, 0]
    assert "have no labels" not in text
    save(root / "img" / "two" / "masks" / "9.png", np.zeros((48, 64), np.uint8))
    text = convert(root, "--masks", root / "img", "--background", "back")[1]
    assert "(1 converted now)" in text
    assert "things, below one pixel: mask 9.png of two/images/two.png" in text


def test_images_may_lie_apart_from_their_masks(root):
    nuclei(root, ("one",))
    (root / "img" / "one" / "masks").rename(root / "m")
    (root / "labels" / "one").mkdir(parents=True)
    (root / "m").rename(root / "labels" / "one" / "masks")
    (root / "img" / "one" / "images" / "one.png").rename(root / "one.PNG")
    (root / "photos").mkdir()
    (root / "one.PNG").rename(root / "photos" / "one.PNG")
    assert convert(root, "--masks", root / "labels", images="photos")[0] == 0
    assert len(segments(root)) == 3


def test_masks_in_folders_of_their_class(root):
    nuclei(root, ("one",), "masks/cell/{}.png")
    assert convert(root, "--masks", root / "img")[0] == 0
    (root / "img" / "one" / "masks" / "cell").rename(root / "img" / "one" / "masks" / "zell")
    error = convert(root, "--masks", root / "img")[2]
    assert "3 labels, first zell/0.png: the class 'zell' is not in" in error


def test_masks_without_a_class_need_a_single_one(root):
    nuclei(root, ("one",))
    (root / "classes.yaml").write_text("[{name: cell, thing: 1}, {name: dirt, thing: 1}]")
    status, _, error = convert(root, "--masks", root / "img")
    assert status == 1
    assert "has 2 thing classes, so masks must lie in folders of their class" in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: save(d / "masks" / "0.png", np.zeros((64, 48), np.uint8)), "[size_mismatch]"),
        (lambda d: (d / "masks" / "0.png").write_bytes(b"no"), "[corrupt_png]"),
        (lambda d: photo(d / "images" / "again.png"), "must hold one image, it holds 2"),
        (lambda d: (d / "images" / "one.png").unlink(), "there is no image for these masks"),
        (lambda d: photo(d / "masks" / "0.jpg"), "masks must be PNG files"),
    ],
)
def test_broken_mask_folders_are_named(root, change, words):
    nuclei(root)
    change(root / "img" / "one")
    status, _, error = convert(root, "--masks", root / "img")
    assert status == 1
    assert words in error
    assert "one" in error


# ---- label maps -------------------------------------------------------------------------------


def maps(root, name="a", suffix=".png", folder="labels", instances="instances"):
    labels = np.ones((48, 64), np.uint8)
    labels[5:15, 10:30] = 7
    save(root / folder / f"{name}{suffix}", labels)
    if instances:
        save(root / instances / f"{name}{suffix}", np.uint8(labels == 7))
    return ["--labels", root / folder, *(["--instances", root / instances] if instances else [])]


def test_extensions_of_maps_may_be_upper_case(root):
    args = maps(root)
    for folder in ("labels", "instances"):
        (root / folder / "a.png").rename(root / folder / "a.PNG")
    assert convert(root, *args)[0] == 0
    assert segments(root) == [(1, 0, 2872), (7, 0, 200)]


def test_maps_must_be_pngs(root):
    args = maps(root, suffix=".tif", instances=None)
    status, _, error = convert(root, *args, "--components")
    assert status == 1
    assert "[bad_label_png] maps must be PNG files; only a.tif is there" in error


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_maps_may_lie_among_the_images(root, suffix):
    args = maps(root, f"a{suffix}", folder="img", instances=None)
    if suffix:
        args += ["--label-suffix", suffix]
    status, text, _ = convert(root, *args, "--components")
    assert status == 0
    assert [image["file_name"] for image in load(root)["images"]] == ["a.jpg"]
    assert "have no labels" not in text


def test_two_images_of_one_name_are_not_to_be_deleted(root):
    photo(root / "img" / "a.png")
    error = convert(root, *maps(root))[2]
    assert "differ in the extension only" in error
    assert "remove" not in error


def test_a_turned_photograph_is_named_for_maps(root):
    photo(root / "img" / "a.jpg", orientation=8)
    error = convert(root, *maps(root))[2]
    assert "EXIF orientation 8" in error
    assert "the label map says 64 x 48" in error


def test_what_maps_lose_is_told(root):
    args = maps(root)
    labels = np.ones((48, 64), np.uint8)
    labels[5:15, 10:30], labels[20, :3], labels[30, :5] = 7, 99, 7
    numbers = np.zeros((48, 64), np.uint8)
    numbers[5:15, 10:30], numbers[40, 40] = 1, 2
    save(root / "labels" / "a.png", labels)
    save(root / "instances" / "a.png", numbers)
    text = convert(root, *args)[1]
    assert "value 99 is in no class and not ignored; 3 pixels in 1 image are void" in text
    assert "pixels of thing classes without an instance" in text
    assert "5 pixels in 1 image are void" in text
    assert balance(text, "on no pixel of a thing class") == [1, 0]
    assert "instance 2 of a.jpg" in text


# ---- several sources, splits, folders -----------------------------------------------------------


def test_sources_are_put_together_image_by_image(root):
    photo(root / "img" / "b.jpg")
    labels = np.ones((48, 64), np.uint8)
    for name in "ab":
        save(root / "labels" / f"{name}.png", labels)
    (root / "classes.yaml").write_text(
        "[{name: road, value: 1, thing: false}, {name: car, value: 7, thing: true}]"
    )
    (root / "i.json").write_text(json.dumps(coco(annotation())))
    labelme(
        root,
        {"label": "car", "points": [[40, 20], [60, 20], [60, 40], [40, 40]]},
        imagePath="../img/b.jpg",
    )
    sources = ["--labels", root / "labels", "--components"]
    sources += ["--coco", root / "i.json", "--labelme", root / "lab"]
    assert convert(root, *sources)[0] == 0
    assert segments(root, 0) == [(1, 0, 2872), (7, 0, 200)]
    assert segments(root, 1) == [(1, 0, 2672), (7, 0, 400)]
    record = json.loads(
        (root / "out" / "annotations" / "panoptic_train.conversion.json").read_text()
    )
    assert record["images"]["b.png"]["sources"] == [
        "../../img/b.jpg",
        "../../labels/b.png",
        "../../lab/a.json",
    ]


def test_another_label_folder_is_converted_again(root):
    args = maps(root)
    assert convert(root, *args)[0] == 0
    other = np.full((48, 64), 7, np.uint8)
    for folder in ("labels2", "instances2"):
        save(root / folder / "a.png", np.ones_like(other) if folder == "instances2" else other)
    args = ["--labels", root / "labels2", "--instances", root / "instances2"]
    assert "(1 converted now)" in convert(root, *args)[1]
    assert segments(root) == [(7, 0, 3072)]


def test_another_json_is_converted_again(root):
    convert_coco(root, coco(annotation()))
    assert "(0 converted now)" in convert_coco(root, coco(annotation()))[1]
    (root / "i2.json").write_text(json.dumps(coco(annotation(polygon=OTHER))))
    text = convert(root, "--coco", root / "i2.json")[1]
    assert "(1 converted now)" in text
    assert segments(root) == [(7, 0, 400)]


def test_images_without_labels_are_told(root):
    for name in ("b", "c"):
        photo(root / "img" / f"{name}.jpg")
    content = coco(annotation())
    content["images"].append({"id": 2, "file_name": "b.jpg", "height": 48, "width": 64})
    text = convert_coco(root, content)[1]
    assert "images: 2 in, 1 out, 1 without a segment left out (b)" in text
    assert re.search(r"warning: 1 images of .*img have no labels: c\.jpg", text)
    assert [image["id"] for image in load(root)["images"]] == ["a"]
    assert "(0 converted now)" in convert_coco(root, content)[1]
    text = convert_coco(root, content, "--background", "road")[1]
    assert "images: 2 in, 2 out" in text


def test_ids_are_those_of_inference(root):
    from mmpanoptic.utils.image_files import unique_image_ids

    names = ["000001", "1", "a", "x/0001", "y/0001"]
    (root / "img" / "a.jpg").unlink()
    for name in names:
        photo(root / "img" / f"{name}.jpg")
        maps(root, name)
    assert convert(root, *maps(root, "1"))[0] == 0
    ids = {image["file_name"][:-4]: image["id"] for image in load(root)["images"]}
    assert ids == unique_image_ids(names) == dict(zip(names, [1, *names[1:]], strict=True))


LISTS = {
    "names.txt": "# validation\nb\n\nsub/c.jpg\n",
    "names.csv": "image_id,split\na,train\nb.jpg,val\nc,val\n",
    "all.csv": "file_name\nb.jpg\nc.jpg\n",
    "list.json": '["b", "sub\\\\c.jpg"]',
    "splits.json": '{"train": ["a"], "val": ["b", "sub/c"]}',
    "coco.json": '{"images": [{"file_name": "b.jpg"}, {"file_name": "c.jpg"}]}',
}


@pytest.mark.parametrize("name", LISTS)
def test_splits_come_from_lists(root, name):
    for image in ("b", "sub/c"):
        photo(root / "img" / f"{image}.jpg")
    for image in ("b", "sub/c"):
        maps(root, image)
    args = maps(root)
    (root / name).write_text(LISTS[name])
    assert convert(root, *args, "--split-list", f"val={root / name}")[0] == 0
    assert [image["id"] for image in load(root)["images"]] == ["a"]
    assert [image["id"] for image in load(root, "val")["images"]] == ["b", "sub/c"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\nzebra\n", "names 1 images that are not among the labelled ones, such as zebra"),
        ("", "names no image"),
    ],
)
def test_lists_that_do_not_fit_are_refused(root, content, words):
    (root / "val.txt").write_text(content)
    status, _, error = convert(root, *maps(root), "--split-list", f"val={root / 'val.txt'}")
    assert status == 1
    assert words in error


def test_an_image_in_two_splits_is_refused(root):
    (root / "val.txt").write_text("a")
    lists = ["--split-list", f"val={root / 'val.txt'}", "--split-list", f"test={root / 'val.txt'}"]
    status, _, error = convert(root, *maps(root), *lists)
    assert status == 1
    assert "a is in the splits val and test" in error


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--split", "val", "--val", "1"], 1, "take another --split"),
        (["--val", "1.5"], 1, "whole number of images"),
        (["--val", "-1"], 1, "got -1"),
        (["--val", "nan"], 1, "got nan"),
        (["--split-list", "val=a", "--split-list", "val=b"], 2, "names a split twice"),
        (["--split", "a/b"], 1, "a split must be named by letters"),
        (["--val", "1", "--split-list", "val=x"], 2, "give one of them"),
        (["--split-list", "val.txt"], 2, "needs NAME=FILE"),
        (["--seed", "3"], 2, "--seed does something with --val only"),
        (["--background", "road"], 2, "--background does something with polygons and masks only"),
        (["--overlap", "last"], 2, "--overlap does something with polygons and masks only"),
        (["--ignore-category", "3"], 2, "--ignore-category does something with --coco only"),
        (["--crowds", "instances"], 2, "--crowds does something with --coco only"),
    ],
)
def test_options_that_make_no_sense_are_refused(root, options, status, words):
    found, _, error = convert(root, *maps(root), *options)
    assert found == status
    assert words in error
    assert not (root / "out").exists()


def test_labels_must_be_named(root):
    status, _, error = convert(root)
    assert status == 2
    assert "--labels, --labelme, --coco, --masks, --yolo, --voc, --cvat or --label-studio" in error


@pytest.mark.parametrize("out", ["img", "img/out"])
def test_output_among_the_images_is_refused(root, out):
    before = contents(root)
    status, _, error = convert(root, *maps(root, "zz"), out=out)
    assert status == 1
    assert "lies inside the folder of the images" in error
    assert {k for k in contents(root) if k.startswith("img")} == {
        k for k in before if k.startswith("img")
    }


def test_a_dataset_of_somebody_else_is_not_replaced(root):
    path = root / "out" / "annotations" / "panoptic_train.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"images": []}')
    status, _, error = convert(root, *maps(root))
    assert status == 1
    assert "no record says" in error
    assert path.read_text() == '{"images": []}'


def test_every_source_ends_in_a_dataset_that_loads(root):
    convert_coco(root, coco(annotation(), annotation(2, OTHER)), "--background", "road")
    data = PanopticDataset(
        "annotations/panoptic_train.json",
        data_root=str(root / "out"),
        data_prefix={"img": "../img", "seg": "annotations/panoptic_train"},
        pipeline=[{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}],
    )
    ids = read_panoptic_png(root / "out" / "annotations" / "panoptic_train" / "a.png")
    assert np.array_equal(data[0]["gt_seg_map"], ids)


@pytest.mark.parametrize("name", ["own_data", "check"])
def test_the_documentation_names_every_option(name):
    page = (tool.TOOLS.parents[1] / "docs" / "dataset_converters.md").read_text(encoding="utf-8")
    text = tool.call(name, "--help")[1]
    options = set(re.findall(r"--[a-z-]+", text)) - {"--help", "--log-level", "--debug", "--nproc"}
    # --json is the old name of --report.
    assert not [o for o in options - {"--json"} if not re.search(rf"`{o}\b|[ (`]{o}[ `=,)]", page)]


def test_the_documentation_names_every_line_of_the_balance():
    page = (tool.TOOLS.parents[1] / "docs" / "dataset_converters.md").read_text(encoding="utf-8")
    assert not [words for words in FATES.values() if f"| `{words}` |" not in page]


def test_own_labels_have_no_scores(root):
    status, _, error = convert_coco(root, coco(annotation(1)), "--overlap", "score")
    assert status == 2
    assert "invalid choice: 'score'" in error


@pytest.mark.parametrize("height", [48, 0])
def test_a_report_never_replaces_an_input(root, height):
    content = coco(annotation())
    content["images"][0]["height"] = height
    status, _, error = convert_coco(root, content, "--report", root / "i.json")
    assert status == 1
    assert "i.json is an input and would be overwritten" in error
    assert (root / "i.json").read_text() == json.dumps(content)
    (root / "val.txt").write_text("a")
    lists = ["--split-list", f"val={root / 'val.txt'}", "--report", root / "val.txt"]
    assert "val.txt is an input" in convert_coco(root, content, *lists)[2]


def test_the_page_of_check_does_not_go_among_the_images(root):
    assert convert_coco(root, coco(annotation()))[0] == 0
    path = root / "out" / "annotations" / "panoptic_train.json"
    status, _, error = tool.call("check", path, "--img-dir", root / "img", "--html", root / "img")
    assert status == 1
    assert "--html" in error
    assert "lies inside the folder of the images" in error
    assert [path.name for path in (root / "img").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("name", ["panoptic_train.json", "panoptic_train.conversion.json"])
def test_a_damaged_result_is_made_anew(root, name):
    assert convert_coco(root, coco(annotation()))[0] == 0
    before = contents(root / "out", records=False)
    (root / "out" / "annotations" / name).write_text("{")
    assert "(1 converted now)" in convert_coco(root, coco(annotation()))[1]
    assert contents(root / "out", records=False) == before


def test_label_maps_without_an_image_are_warned_of(root):
    args = maps(root)
    save(root / "labels" / "zebra.png", np.ones((48, 64), np.uint8))
    text = convert(root, *args)[1]
    assert "warning: 1 labels have no image" in text
    assert "zebra.png" in text


def test_components_and_instance_maps_exclude_each_other(root):
    status, _, error = convert(root, *maps(root), "--components")
    assert status == 2
    assert "--components is for label maps without --instances" in error


def test_a_conversion_that_leaves_nothing_is_warned_of(root):
    text = convert_coco(root, coco(annotation()), "--ignore-category", "car")[1]
    assert "images: 1 in, 0 out" in text
    assert "warning: no image has a segment" in text


def test_categories_that_are_not_there_are_answered_with_those_that_are(root):
    error = convert_coco(root, coco(annotation()), "--ignore-category", "zebra")[2]
    assert "--ignore-category 'zebra' is not among the categories: 1 (car), 2 (road)" in error
