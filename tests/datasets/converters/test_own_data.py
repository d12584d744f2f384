import base64
import json
import shlex

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.class_list import read_class_list
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from . import tool
from .tool import contents

CLASSES = """
classes:
  - {name: cat, value: 300, thing: true}
  - {name: sky, value: 0, thing: false, color: [1, 2, 3]}
  - {name: dog, value: 7, thing: true}
ignore: [65535]
"""
LABELS = np.array([[0, 0, 300, 300], [0, 65535, 300, 7]])
INSTANCES = np.array([[9, 0, 4, 2], [0, 4, 0, 4]])
EXPECTED = np.array([[3, 3, 2, 1], [3, 0, 0, 4]])


def save(path, values, dtype=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(values).astype(dtype))


@pytest.fixture
def root(tmp_path):
    """Four images of different kinds with 16-bit label maps and 8-bit instance maps."""
    for name in ("one.jpg", "two.png", "sub/three.jpeg", "sub/four.bmp"):
        stem = name.split(".")[0]
        save(tmp_path / "images" / name, np.zeros((2, 4, 3)), np.uint8)
        save(tmp_path / "labels" / f"{stem}.png", LABELS)
        save(tmp_path / "instances" / f"{stem}.png", INSTANCES, np.uint8)
    (tmp_path / "classes.yaml").write_text(CLASSES)
    return tmp_path


def call(root, *args):
    base = [root / "out", "--classes", root / "classes.yaml", "--images", root / "images"]
    return tool.call("own_data", *base, *args)


def maps(root):
    return ["--labels", root / "labels", "--instances", root / "instances"]


def load(root, split="train"):
    return json.loads((root / "out" / "annotations" / f"panoptic_{split}.json").read_text())


def png(root, name, split="train"):
    return read_panoptic_png(root / "out" / "annotations" / f"panoptic_{split}" / f"{name}.png")


def test_maps_become_a_dataset_that_the_checker_accepts(root):
    assert call(root, *maps(root), "--nproc", 2)[0] == 0
    content = load(root)
    assert [image["id"] for image in content["images"]] == ["one", "sub/four", "sub/three", "two"]
    names = [image["file_name"] for image in content["images"]]
    assert names == ["one.jpg", "sub/four.bmp", "sub/three.jpeg", "two.png"]
    categories = [(c["id"], c["name"], c["isthing"]) for c in content["categories"]]
    assert categories == [(300, "cat", 1), (0, "sky", 0), (7, "dog", 1)]
    assert content["categories"][1]["color"] == [1, 2, 3]
    segments = content["annotations"][0]["segments_info"]
    assert [(s["id"], s["category_id"], s["area"]) for s in segments] == [
        (1, 300, 1),
        (2, 300, 1),
        (3, 0, 3),
        (4, 7, 1),
    ]
    for image in content["images"]:
        assert np.array_equal(png(root, image["id"]), EXPECTED)
    json_path = root / "out" / "annotations" / "panoptic_train.json"
    assert tool.call("check", json_path, "--img-dir", root / "images")[0] == 0


def test_a_second_run_does_nothing_and_other_settings_redo_all(root):
    call(root, *maps(root), "--nproc", 2)
    before = contents(root)
    assert "(0 converted now)" in call(root, *maps(root), "--nproc", 1)[1]
    assert contents(root) == before
    assert "(4 converted now)" in call(root, *maps(root), "--zero-is-crowd")[1]
    assert [s["iscrowd"] for s in load(root)["annotations"][0]["segments_info"]] == [1, 0, 0, 0, 0]


def test_a_changed_class_list_redoes_all(root):
    call(root, *maps(root))
    (root / "classes.yaml").write_text(CLASSES.replace("sky", "air"))
    assert "(4 converted now)" in call(root, *maps(root))[1]


def test_the_set_is_divided(root):
    assert call(root, *maps(root), "--val", 1)[0] == 0
    ids = {s: {i["id"] for i in load(root, s)["images"]} for s in ("train", "val")}
    assert len(ids["val"]) == 1
    assert len(ids["train"]) == 3
    assert not ids["val"] & ids["train"]
    assert call(root, *maps(root), "--val", 0.5)[0] == 0
    assert len(load(root, "val")["images"]) == 2
    assert call(root, *maps(root), "--val", 4)[0] == 1


def test_the_printed_paths_build_a_dataset(root):
    from mmpanoptic.datasets import PanopticDataset

    text = call(root, *maps(root), "--val", 1)[1]
    line = next(line for line in text.splitlines() if "train.py" in line)
    options = dict(word.split("=") for word in shlex.split(line)[4:])
    assert set(options) == {"data_root", "train_img", "val_img"}
    for split, length in (("train", 3), ("val", 1)):
        data = PanopticDataset(
            f"annotations/panoptic_{split}.json",
            data_root=options["data_root"],
            data_prefix={
                "img": options[f"{split}_img"],
                "seg": f"annotations/panoptic_{split}/",
            },
            pipeline=[{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}],
        )
        assert len(data) == length
        for item in data:
            assert item["gt_seg_map"].tolist() == EXPECTED.tolist()


def test_unknown_values_are_void_and_said(root):
    (root / "classes.yaml").write_text(CLASSES.replace("ignore: [65535]", ""))
    status, text, _ = call(root, *maps(root))
    assert status == 0
    assert text.count("note: value 65535 is in no class and not ignored") == 1
    assert np.array_equal(png(root, "one"), EXPECTED)


def test_connected_regions_stand_for_instances(root):
    labels = [[7, 0, 7, 0], [0, 7, 0, 7]]
    for path in (root / "labels").rglob("*.png"):
        save(path, labels)
    assert "--components" in call(root, "--labels", root / "labels")[2]
    assert call(root, "--labels", root / "labels", "--components")[0] == 0
    assert png(root, "one").tolist() == [[2, 1, 2, 1], [1, 2, 1, 2]]
    for path in (root / "labels").rglob("*.png"):
        save(path, [[7, 7, 0, 7], [7, 0, 0, 7]])
    call(root, "--labels", root / "labels", "--components")
    assert png(root, "one").tolist() == [[2, 2, 1, 3], [2, 1, 1, 3]]


def test_stuff_needs_no_instances_and_things_no_stuff(root):
    (root / "classes.yaml").write_text("classes: [{name: sky, value: 0, thing: 0}]\nignore: [7]")
    assert call(root, "--labels", root / "labels")[0] == 0
    assert [c["isthing"] for c in load(root)["categories"]] == [0]
    (root / "classes.yaml").write_text("[{name: cat, value: 300, thing: true}]")
    assert call(root, *maps(root))[0] == 0
    assert [c["isthing"] for c in load(root)["categories"]] == [1]


def test_names_may_have_suffixes(root):
    for kind in ("labels", "instances"):
        for path in sorted((root / kind).rglob("*.png")):
            path.rename(path.with_name(f"{path.stem}_{kind}.png"))
    status, _, error = call(root, *maps(root))
    assert status == 1
    assert "--label-suffix" in error
    assert error.count("missing_file]") == 8
    extra = ("--label-suffix", "_labels", "--instance-suffix", "_instances")
    assert call(root, *maps(root), *extra)[0] == 0


def test_palette_maps_are_read_by_index(root):
    from PIL import Image

    for path in (root / "labels").rglob("*.png"):
        image = Image.fromarray(np.where(LABELS > 255, 7, LABELS).astype(np.uint8), "P")
        image.putpalette([200, 10, 30] * 256)
        image.save(path)
    call(root, *maps(root))
    assert {s["category_id"] for s in load(root)["annotations"][0]["segments_info"]} == {0, 7}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: save(r / "labels/two.png", np.zeros((3, 4))), "size_mismatch"),
        (lambda r: save(r / "instances/two.png", np.zeros((2, 5))), "size_mismatch"),
        (lambda r: save(r / "labels/two.png", np.zeros((2, 4, 3)), np.uint8), "bad_label_png"),
        (lambda r: (r / "labels/two.png").write_bytes(b"no"), "corrupt_png"),
        (lambda r: save(r / "images/two.jpg", np.zeros((2, 4, 3)), np.uint8), "extension only"),
        (lambda r: (r / "images/two.png").write_bytes(b"no"), "not a readable image"),
    ],
)
def test_bad_files_are_named(root, change, message):
    change(root)
    status, _, error = call(root, *maps(root))
    assert status == 1
    assert message in error
    assert "two" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "neither YAML nor JSON"),
        ("5", "no list 'classes'"),
        ("classes: []", "is empty"),
        ("[1]", r"classes\[0\] must be an object"),
        ("[{name: a, thing: 1, colour: 3}]", "unknown fields"),
        ("[{name: no, thing: 1}]", r"name must be text \(quote it\), got False"),
        ("[{name: a, value: 1}]", "thing must be true or false, got None"),
        ("[{name: a, thing: maybe}]", "thing must be true or false"),
        ("[{name: a, thing: 1, value: -1}]", r"value must be 0\.\.65535"),
        ("[{name: a, thing: 1, color: red}]", "color must be three numbers"),
        ("[{name: a, thing: 1, value: 1}, {name: b, thing: 1}]", "every class has a value or none"),
        ("[{name: a, thing: 1}, {name: a, thing: 1}]", "repeat the name a"),
        ("{classes: [{name: a, thing: 1, value: 4}], ignore: [4]}", "classes and ignored at once"),
        ("{classes: [{name: a, thing: 1}], ignore: 4}", "ignore must be a list"),
    ],
)
def test_bad_class_lists_are_explained(tmp_path, text, message):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_class_list(path)
    assert str(path) in str(caught.value)


POLYGON_CLASSES = "[{name: sky, thing: 0}, {name: cat, thing: 1}, {name: dog, thing: 1}]"


@pytest.fixture
def labelme(tmp_path):
    """One image of 6 x 8 pixels with shapes of every kind."""
    save(tmp_path / "images" / "p.png", np.zeros((6, 8, 3)), np.uint8)
    code = cv2.imencode(".png", np.array([[255, 0], [255, 255]], np.uint8))[1].tobytes()
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [2, 2]], "group_id": 1},
        {"label": "cat", "points": [[4, 0], [6, 0], [6, 2], [4, 2]], "group_id": 1},
        {"label": "dog", "shape_type": "polygon", "points": [[1, 0], [3, 0], [3, 1], [1, 1]]},
        {
            "label": "dog",
            "shape_type": "mask",
            "points": [[6, 4], [7, 5]],
            "mask": base64.b64encode(code).decode(),
        },
    ]
    content = {"imagePath": "..\\somewhere\\p.png", "imageHeight": 6, "imageWidth": 8}
    (tmp_path / "images" / "p.json").write_text(json.dumps({**content, "shapes": shapes}))
    (tmp_path / "classes.yaml").write_text(POLYGON_CLASSES)
    return tmp_path


def test_labelme_shapes_are_painted(labelme):
    args = ("--labelme", labelme / "images", "--background", "sky")
    assert call(labelme, *args)[0] == 0
    expected = np.ones((6, 8), int)
    expected[:2, :2] = expected[:2, 4:6] = 2
    expected[0, 1:3] = 3
    expected[4, 6] = expected[5, 6:] = 4
    assert png(labelme, "p").tolist() == expected.tolist()
    assert [s["category_id"] for s in load(labelme)["annotations"][0]["segments_info"]] == [
        1,
        2,
        3,
        3,
    ]
    call(labelme, "--labelme", labelme / "images", "--overlap", "first")
    assert png(labelme, "p")[0].tolist() == [1, 1, 2, 0, 1, 1, 0, 0]


def test_circles_are_round(labelme):
    path = labelme / "images" / "p.json"
    content = json.loads(path.read_text())
    content["shapes"] = [
        {"label": "cat", "shape_type": "circle", "points": [[4, 3], [6.5, 3]]},
    ]
    path.write_text(json.dumps(content))
    call(labelme, "--labelme", labelme / "images")
    area = load(labelme)["annotations"][0]["segments_info"][0]["area"]
    assert abs(area - np.pi * 2.5**2) < 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "bird"}, "the class 'bird' is not in"),
        ({"shape_type": "point"}, "shape_type 'point' has no area"),
        ({"points": [[1, 1], [2, 2]]}, "at least three points"),
        ({"shape_type": "mask", "mask": "!"}, "not base64"),
        ({"shape_type": "mask", "mask": ""}, "no PNG"),
    ],
)
def test_bad_labelme_shapes_are_named(labelme, change, message):
    path = labelme / "images" / "p.json"
    content = json.loads(path.read_text())
    content["shapes"][2].update(change)
    path.write_text(json.dumps(content))
    status, _, error = call(labelme, "--labelme", labelme / "images")
    assert status == 1
    assert message in error
    assert "p.json" in error


def test_ignored_labels_are_void(labelme):
    text = "{classes: [{name: cat, thing: 1}], ignore: [dog]}"
    (labelme / "classes.yaml").write_text(text)
    assert call(labelme, "--labelme", labelme / "images")[0] == 0
    assert set(np.unique(png(labelme, "p"))) == {0, 1}


def test_other_files_are_no_labelme_files(labelme):
    (labelme / "empty").mkdir()
    (labelme / "empty" / "a.json").write_text("{}")
    status, _, error = call(labelme, "--labelme", labelme / "empty")
    assert status == 1
    assert "holds no labelme files" in error


@pytest.fixture
def coco(labelme):
    annotations = [
        {"id": 1, "image_id": 3, "category_id": 9, "segmentation": [[0, 0, 8, 0, 8, 3, 0, 3]]},
        {"id": 2, "image_id": 3, "category_id": 4, "segmentation": [[2, 0, 4, 0, 4, 2, 2, 2]]},
    ]
    content = {
        "images": [{"id": 3, "file_name": "p.png", "height": 6, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 4, "name": "dog"}, {"id": 9, "name": "cat"}],
    }
    (labelme / "coco.json").write_text(json.dumps(content))
    return labelme


def test_coco_instances_are_painted(coco):
    args = ("--coco", coco / "coco.json", "--background", "sky", "--nproc", 2)
    assert call(coco, *args)[0] == 0
    expected = np.ones((6, 8), int)
    expected[:3] = 2
    expected[:2, 2:4] = 3
    assert png(coco, "p").tolist() == expected.tolist()
    assert "(0 converted now)" in call(coco, *args)[1]
    status, _, error = call(coco, "--coco", coco / "coco.json", "--overlap", "error")
    assert status == 1
    assert "annotation 1 (cat) and annotation 2 (dog) overlap in 4 pixels" in error


@pytest.mark.parametrize(
    ("place", "change", "kind"),
    [
        ("categories", {"name": "bird"}, "unknown_class"),
        ("annotations", {"image_id": 4}, "missing_image"),
        ("images", {"file_name": "q.png"}, "missing_file"),
        ("images", {"file_name": "../images/p.png"}, "unsafe_path"),
        ("images", {"file_name": None}, "bad_field"),
        ("annotations", {"segmentation": "x"}, "bad_segmentation"),
    ],
)
def test_bad_coco_files_are_named(coco, place, change, kind):
    content = json.loads((coco / "coco.json").read_text())
    content[place][0].update(change)
    (coco / "coco.json").write_text(json.dumps(content))
    status, _, error = call(coco, "--coco", coco / "coco.json")
    assert status == 1
    assert kind in error
    assert "Traceback" not in error
