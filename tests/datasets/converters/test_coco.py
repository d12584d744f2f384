import json
import os
import shutil
import time

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.coco_json import choose_images, read_image_ids
from mmpanoptic.datasets.converters.coco_semantic import style_values
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from . import tool
from .tool import contents

# Things do not come first, ids start at 0 and are not sorted.
CATEGORIES = [
    {"id": 5, "name": "sky", "isthing": 0, "supercategory": "s"},
    {"id": 0, "name": "cat", "isthing": 1, "supercategory": "c"},
    {"id": 9, "name": "dog", "isthing": 1, "supercategory": "d"},
    {"id": 2, "name": "sea", "isthing": 0, "supercategory": "s"},
]
IDS = np.array([[0, 300, 300, 7], [0, 300, 70000, 7], [8, 8, 70000, 7]], np.int32)
SEGMENTS = [(300, 5), (7, 0), (70000, 9), (8, 0)]


@pytest.fixture
def root(tmp_path):
    images, annotations = [], []
    for k, name in enumerate(["b", "a", "c"]):
        ids = np.roll(IDS, k, 1)
        path = tmp_path / "annotations" / "panoptic_val" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_panoptic_png(ids))
        images.append({"id": k + 1, "file_name": f"{name}.jpg", "height": 3, "width": 4})
        segments = [{"id": i, "category_id": c, "iscrowd": int(i == 8)} for i, c in SEGMENTS]
        entry = {"image_id": k + 1, "file_name": f"{name}.png", "segments_info": segments}
        annotations.append(entry)
    write(tmp_path, images, annotations)
    return tmp_path


def write(root, images, annotations):
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / "panoptic_val.json").write_text(json.dumps(content))


def source(root):
    return root / "annotations" / "panoptic_val.json"


def load(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("style", "void", "values"),
    [
        ("contiguous", 255, [0, 1, 2, 3]),
        ("things_zero", 255, [1, 0, 0, 2]),
        ("things_last", 0, [1, 3, 3, 2]),
        ("one_based", 0, [1, 2, 3, 4]),
    ],
)
def test_styles_number_classes_in_the_order_of_the_categories(root, style, void, values):
    assert tool.call("coco_panoptic2semantic", source(root), "--style", style)[0] == 0
    folder = next(path for path in (root / "annotations").iterdir() if (path / "b.png").exists())
    folders = [p for p in (root / "annotations").iterdir() if p.name != "panoptic_val"]
    folder = next(path for path in folders if path.is_dir())
    made = cv2.imread(str(folder / "b.png"), cv2.IMREAD_UNCHANGED)
    by_id = {0: void, 300: values[0], 7: values[1], 8: values[1], 70000: values[2]}
    assert np.array_equal(made, np.vectorize(by_id.get)(IDS))


@pytest.mark.parametrize("style", ["category_id", "things_other"])
def test_a_class_with_the_number_of_void_is_refused(root, style):
    # Category 0 is a thing here: only the raw ids collide with void.
    if style == "things_other":
        assert style_values(LabelTable.from_categories(CATEGORIES), style) == ([5, 183, 183, 2], 0)
        return
    status, _, error = tool.call("coco_panoptic2semantic", source(root), "--style", style)
    assert status == 1
    assert "does not fit" in error


def test_too_many_classes_are_refused():
    categories = [{"id": i, "name": f"c{i}", "isthing": 1} for i in range(256)]
    with pytest.raises(ValueError, match="does not fit into an 8-bit map"):
        style_values(LabelTable.from_categories(categories), "contiguous")


def test_numberings_do_not_mix_in_one_folder(root):
    args = ("coco_panoptic2semantic", source(root), "--out-dir", root / "out", "--style")
    assert tool.call(*args, "contiguous")[0] == 0
    before = contents(root)
    status, _, error = tool.call(*args, "things_zero")
    assert status == 1
    assert "holds maps of style contiguous" in error
    assert contents(root) == before


@pytest.mark.parametrize(
    "command",
    [
        ("coco_panoptic2semantic", "--style", "things_last"),
        ("coco_panoptic2instances", "--mode", "all"),
    ],
)
def test_conversions_are_incremental_and_do_not_depend_on_nproc(root, command):
    name, *options = command
    assert tool.call(name, source(root), *options, "--nproc", 2)[0] == 0
    before = contents(root)
    assert "(0 converted now)" in tool.call(name, source(root), *options)[1]
    assert contents(root) == before
    before = contents(root, records=False)
    later = time.time() + 10  # clocks of file systems tick too slowly for "now"
    os.utime(source(root), (later, later))
    assert "(0 converted now)" in tool.call(name, source(root), *options)[1]
    text = source(root).read_text()
    source(root).write_text(text.replace('"cat"', '"kit"'))
    folder = root / "annotations" / "semantic_val"
    if folder.exists():  # its mark says what the classes were
        assert "of other classes" in tool.call(name, source(root), *options)[2]
        shutil.rmtree(folder)
    assert "(3 converted now)" in tool.call(name, source(root), *options, "--nproc", 1)[1]
    source(root).write_text(text)
    if folder.exists():
        shutil.rmtree(folder)
    assert "(3 converted now)" in tool.call(name, source(root), *options, "--nproc", 1)[1]
    assert contents(root, records=False) == before


def test_instances_are_counted_in_the_png(root):
    tool.call("coco_panoptic2instances", source(root))
    content = load(root / "annotations" / "things_from_panoptic_val.json")
    assert [c["id"] for c in content["categories"]] == [0, 9]
    assert all("isthing" not in c for c in content["categories"])
    first = [a for a in content["annotations"] if a["image_id"] == 1]
    assert [(a["id"], a["category_id"], a["iscrowd"], a["area"], a["bbox"]) for a in first] == [
        (1, 0, 0, 3, [3, 0, 1, 3]),
        (2, 9, 0, 2, [2, 1, 1, 2]),
        (3, 0, 1, 2, [0, 2, 2, 1]),
    ]


@pytest.mark.parametrize("name", ["coco_panoptic2semantic", "coco_panoptic2instances"])
def test_a_png_that_does_not_fit_is_named(root, name):
    png = root / "annotations" / "panoptic_val" / "a.png"
    png.write_bytes(encode_panoptic_png(np.full((3, 4), 77)))
    extra = ("--style", "contiguous") if "semantic" in name else ()
    status, _, error = tool.call(name, source(root), *extra)
    assert status == 1
    assert "png_id_not_in_json" in error
    assert str(png) in error


def test_all_missing_pngs_are_listed(root):
    for name in "ab":
        (root / "annotations" / "panoptic_val" / f"{name}.png").unlink()
    status, _, error = tool.call("coco_panoptic2instances", source(root))
    assert status == 1
    assert "a.png" in error
    assert "b.png" in error


def test_detectron2s_folder_is_found(root):
    (root / "annotations" / "panoptic_val").rename(root / "panoptic_val")
    assert tool.call("coco_panoptic2instances", source(root))[0] == 0


def test_a_missing_folder_names_the_option(root):
    (root / "annotations" / "panoptic_val").rename(root / "elsewhere")
    status, _, error = tool.call("coco_panoptic2instances", source(root))
    assert status == 1
    assert "--png-dir" in error


def test_train_ids_are_positions(root):
    assert tool.call("panoptic2trainid", source(root))[0] == 0
    path = root / "annotations" / "panoptic_val_trainId.json"
    content = load(path)
    assert [c["id"] for c in content["categories"]] == [0, 1, 2, 3]
    assert [s["category_id"] for s in content["annotations"][0]["segments_info"]] == [0, 1, 2, 1]
    assert [s["id"] for s in content["annotations"][0]["segments_info"]] == [300, 7, 70000, 8]
    changed = path.stat().st_mtime_ns
    assert "was there" in tool.call("panoptic2trainid", source(root))[1]
    assert path.stat().st_mtime_ns == changed


def test_train_ids_of_unknown_categories_are_refused(root):
    content = load(source(root))
    content["annotations"][1]["segments_info"][0]["category_id"] = 77
    source(root).write_text(json.dumps(content))
    status, _, error = tool.call("panoptic2trainid", source(root))
    assert status == 1
    assert "unknown_category" in error


@pytest.fixture
def coco(tmp_path):
    """A training set of 40 images without files."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    images = [
        {"id": 7 * k, "file_name": f"{7 * k:012d}.jpg", "height": 3, "width": 4} for k in range(40)
    ]
    instances = [{"id": k, "image_id": 7 * (k % 40), "category_id": 0} for k in range(100)]
    panoptic = [
        {"image_id": 7 * k, "file_name": f"{7 * k:012d}.png", "segments_info": []}
        for k in range(40)
    ]
    for name, annotations in [("instances", instances), ("panoptic", panoptic)]:
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (folder / f"{name}_train2017.json").write_text(json.dumps(content))
    return tmp_path


def test_the_search_split_cuts_the_set_in_two(coco):
    assert tool.call("coco_nas_split", coco, "--num-val", 10)[0] == 0
    parts = {path.stem: load(path) for path in (coco / "nas").iterdir()}
    val, train = parts["instances_nas_val2017"], parts["instances_nas_train2017"]
    assert len(val["images"]) == 10
    ids = [{image["id"] for image in part["images"]} for part in (val, train)]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == 40
    assert len(val["annotations"]) + len(train["annotations"]) == 100
    assert {a["image_id"] for a in parts["panoptic_nas_val2017"]["annotations"]} == ids[0]


def test_the_search_split_depends_on_the_seed_alone(coco):
    ids = [7 * k for k in range(40)]
    chosen = choose_images(ids, 10, seed=0)
    assert choose_images(ids[::-1], 10, seed=0) == chosen
    assert choose_images(ids, 10, seed=1) != chosen
    # Fixed for all time: a change would change everybody's split.
    assert chosen == [7, 63, 91, 112, 119, 126, 147, 154, 175, 245]


@pytest.mark.parametrize("form", ["text", "list", "coco"])
def test_the_search_split_takes_given_images(coco, form):
    path = coco / ("ids.txt" if form == "text" else "ids.json")
    content = {
        "text": "000000000014\n0\n",
        "list": "[14, 0]",
        "coco": json.dumps({"images": [{"id": 0}, {"id": 14}]}),
    }
    path.write_text(content[form])
    assert tool.call("coco_nas_split", coco, "--ids", path)[0] == 0
    made = load(coco / "nas" / "instances_nas_val2017.json")
    assert [image["id"] for image in made["images"]] == [0, 14]


def test_the_search_split_refuses_strangers(coco):
    (coco / "ids.txt").write_text("15")
    status, _, error = tool.call("coco_nas_split", coco, "--ids", coco / "ids.txt")
    assert status == 1
    assert "not in the set, such as '15'" in error


def test_the_search_split_needs_enough_images(coco):
    status, _, error = tool.call("coco_nas_split", coco)
    assert status == 1
    assert "cannot take 5000 of 40 images" in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7", "must hold a list of image ids"),
        ('{"images": [null]}', "must hold a list of image ids"),
        ("[[1]]", "must hold a list of image ids"),
        ("[99]", "names 1 images that are not in the set, such as 99"),
    ],
)
def test_a_list_of_ids_that_is_none_is_explained(tmp_path, text, words):
    path = tmp_path / "ids.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_image_ids(path, [1, 2])


def test_lists_of_ids_may_begin_with_a_byte_order_mark(tmp_path):
    for name, content in (("ids.txt", "000002\n1"), ("ids.json", '{"images": [{"id": 2}]}')):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert read_image_ids(tmp_path / "ids.txt", [1, 2]) == [1, 2]
    assert read_image_ids(tmp_path / "ids.json", [1, 2]) == [2]
