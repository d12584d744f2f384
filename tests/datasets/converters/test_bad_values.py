"""Whatever stands at whatever place of a file, a command works or says what is wrong with it."""

import copy
import json
import shutil

import cv2
import numpy as np
import pytest

from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from . import tool

VALUES = {
    "null": None,
    "text": "x",
    "empty text": "",
    "half a character": "\ud800",
    "NUL": "a\0b",
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "nan": float("nan"),
    "huge": 10**30,
    "true": True,
    "list": [None],
    "empty list": [],
    "list of lists": [[]],
    "object": {},
}
SQUARE = [10, 5, 30, 5, 30, 15, 10, 15]


def images():
    return [
        {"id": number, "file_name": f"{name}.jpg", "height": 48, "width": 64}
        for number, name in ((1, "a"), (2, "b"))
    ]


def instances():
    area = {"iscrowd": 0, "area": 200, "bbox": [10, 5, 20, 10]}
    code = {"size": [48, 64], "counts": [100, 200, 2772]}
    return {
        "images": images(),
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], **area},
            {"id": 2, "image_id": 2, "category_id": 2, "segmentation": code, **area},
        ],
        "categories": [
            {"id": 1, "name": "car", "isthing": 1, "supercategory": "vehicle"},
            {"id": 2, "name": "road", "isthing": 0},
        ],
    }


def panoptic():
    segments = [
        {"id": 1, "category_id": 1, "area": 2872, "bbox": [0, 0, 64, 48], "iscrowd": 0},
        {"id": 7, "category_id": 7, "area": 200, "bbox": [10, 5, 20, 10], "iscrowd": 0},
    ]
    return {
        "images": images(),
        "annotations": [
            {"image_id": image, "file_name": f"{name}.png", "segments_info": segments}
            for image, name in ((1, "a"), (2, "b"))
        ],
        "categories": [
            {"id": 1, "name": "road", "isthing": 0, "color": [1, 2, 3]},
            {"id": 7, "name": "car", "isthing": 1},
        ],
    }


def labelme():
    return {
        "imagePath": "a.jpg",
        "imageHeight": 48,
        "imageWidth": 64,
        "shapes": [
            {"label": "car", "points": [[10, 5], [30, 5], [30, 15]], "group_id": 1},
            {"label": "road", "points": [[1, 5], [30, 5]], "shape_type": "rectangle"},
        ],
    }


def polygons():
    objects = [{"label": "car", "polygon": [[10, 5], [30, 5], [30, 15]], "deleted": 0}]
    return {"imgHeight": 48, "imgWidth": 64, "objects": objects}


def classes():
    car = {"name": "car", "thing": True, "color": [1, 2, 3], "supercategories": ["vehicle"]}
    return {"classes": [{"name": "road", "thing": False, "labels": ["r"]}, car], "ignore": ["sky"]}


def places(value, start=()):
    """Yield the way to everything in a JSON value."""
    yield start
    entries = value.items() if isinstance(value, dict) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    for key, inner in entries:
        yield from places(inner, (*start, key))


def changed(content, place, value):
    if not place:
        return value
    content = copy.deepcopy(content)
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return content


def own_data(root, *labels):
    base = [root / "out", "--classes", root / "classes.json", "--images", root / "img"]
    return tool.call("own_data", *base, *labels, "--nproc", 1)


def from_masks(root):
    files = ["--images", root / "x.json", "--categories", root / "x.json", "--nproc", 1]
    target = ["--out", root / "out" / "o.json"]
    return tool.call("instances2panoptic", root / "x.json", *files, *target)


def on_panoptic(name, *options):
    return lambda root: tool.call(name, root / "x.json", "--png-dir", root / "png", *options)


def cityscapes(root):
    for folder in ("leftImg8bit", "gtFine"):
        (root / "out" / folder / "val" / "x").mkdir(parents=True)
    stem = "x_000000_000001"
    file = root / "out" / "gtFine" / "val" / "x" / f"{stem}_gtFine_polygons.json"
    shutil.copyfile(root / "x.json", file)
    photo = root / "out" / "leftImg8bit" / "val" / "x" / f"{stem}_leftImg8bit.png"
    cv2.imwrite(str(photo), np.zeros((48, 64, 3), np.uint8))
    options = ["--from-polygons", "--split", "val", "--only", "panoptic", "--nproc", 1]
    return tool.call("cityscapes", root / "out", *options)


def labelme_folder(root):
    (root / "out").mkdir()
    shutil.copyfile(root / "x.json", root / "out" / "a.json")
    base = [root / "made", "--classes", root / "classes.json", "--images", root / "img"]
    found = tool.call("own_data", *base, "--labelme", root / "out", "--nproc", 1)
    shutil.rmtree(root / "made", ignore_errors=True)
    return found


def class_list(root):
    (root / "i.json").write_text(json.dumps(instances()))
    base = [root / "out", "--classes", root / "x.json", "--images", root / "img"]
    return tool.call("own_data", *base, "--coco", root / "i.json", "--nproc", 1)


def crops(root):
    return tool.call("thing_crops", root / "x.json", root / "img", root / "out", "--nproc", 1)


def split(root):
    (root / "i.json").write_text(json.dumps(instances()))
    return own_data(root, "--coco", root / "i.json", "--split-list", f"val={root / 'x.json'}")


COMMANDS = {
    "own data from COCO": (instances, lambda root: own_data(root, "--coco", root / "x.json")),
    "own data from labelme": (labelme, labelme_folder),
    "class list": (classes, class_list),
    "split list": (lambda: {"images": [{"id": 1, "file_name": "b.jpg"}]}, split),
    "masks to panoptic": (instances, from_masks),
    "check of instances": (instances, lambda root: tool.call("check", root / "x.json")),
    "check": (panoptic, on_panoptic("check", "--nproc", 1)),
    "crops": (panoptic, crops),
    "Cityscapes": (polygons, cityscapes),
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "png").mkdir()
    (tmp_path / "classes.json").write_text(json.dumps(classes()))
    ids = np.full((48, 64), 1, np.int32)
    ids[5:15, 10:30] = 7
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "img" / f"{name}.jpg"), np.zeros((48, 64, 3), np.uint8))
        (tmp_path / "png" / f"{name}.png").write_bytes(encode_panoptic_png(ids))
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_the_files_are_right_as_they_are(root, name):
    make, use = COMMANDS[name]
    (root / "x.json").write_text(json.dumps(make()))
    status, _, error = use(root)
    assert status == 0, error


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", COMMANDS)
def test_any_value_at_any_place_is_taken_or_explained(root, name, value):
    make, use = COMMANDS[name]
    content = make()
    for place in places(content):
        (root / "x.json").write_text(json.dumps(changed(content, place, VALUES[value])))
        status, _, error = use(root)
        assert status in (0, 1), (place, error)
        assert "not foreseen" not in error, (place, error)
        if status:
            assert "error: " in error
        shutil.rmtree(root / "out", ignore_errors=True)
