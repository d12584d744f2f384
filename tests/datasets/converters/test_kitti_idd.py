"""KITTI panoptic and IDD from made files in the layout of their public converters."""

import json

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.datasets.converters.idd import CATEGORIES, LABELS
from mmpanoptic.datasets.converters.resized_pairs import resize_ids
from mmpanoptic.structures import id2rgb
from mmpanoptic.utils import read_json
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from . import tool
from .tool import contents


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def write_ids(path, ids):
    write_png(path, id2rgb(ids)[..., ::-1])


# ---- KITTI -----------------------------------------------------------------------------------

# road, sidewalk and a group of cars; a person, two cars, a caravan and unlabeled
KITTI = np.array(
    [
        [7, 7, 7, 7, 8, 8, 8, 26],
        [7, 24000, 24000, 7, 8, 26000, 26000, 26],
        [7, 24000, 24000, 7, 8, 26001, 26001, 26],
        [7, 7, 7, 7, 29003, 29003, 0, 0],
    ],
    np.int32,
)


@pytest.fixture
def kitti(tmp_path):
    return make_kitti(tmp_path / "kitti")


def make_kitti(root):
    rng = np.random.default_rng(0)
    for folder, names in (("training", ["000000_10", "000001_10"]), ("validation", ["000002_10"])):
        for name in names:
            write_ids(root / folder / "annotations" / f"{name}.png", KITTI)
            write_png(root / folder / "images" / f"{name}.png", rng.integers(0, 255, (4, 8, 3)))
    return root


def dataset(root, ann_file, img, seg):
    return PanopticDataset(
        str(root / ann_file), data_prefix={"img": str(root / img), "seg": str(root / seg)}
    )


def test_kitti_keeps_ids_and_makes_void_what_is_not_evaluated(kitti):
    status, out, err = tool.call("kitti", kitti)
    assert status == 0, err
    assert "panoptic_train: 2 images" in out
    content = read_json(kitti / "annotations/panoptic_train.json")
    assert [image["file_name"] for image in content["images"]] == ["000000_10.png", "000001_10.png"]
    assert len(content["categories"]) == 19
    assert {c["id"]: c["name"] for c in content["categories"]}[26] == "car"
    segments = content["annotations"][0]["segments_info"]
    found = [(s["id"], s["category_id"], s["iscrowd"], s["area"]) for s in segments]
    assert found == [
        *((7, 7, 0, 12), (8, 8, 0, 5), (26, 26, 1, 3)),
        *((24000, 24, 0, 4), (26000, 26, 0, 2), (26001, 26, 0, 2)),
    ]
    ids = read_panoptic_png(kitti / "annotations/panoptic_train/000000_10.png")
    expected = np.where(np.isin(KITTI, (29003, 0)), 0, KITTI)
    assert (ids == expected).all()


def test_kitti_is_read_as_the_config_reads_it(kitti):
    tool.call("kitti", kitti)
    for split, folder, count in (("train", "training", 2), ("val", "validation", 1)):
        data = dataset(
            kitti,
            f"annotations/panoptic_{split}.json",
            f"{folder}/images",
            f"annotations/panoptic_{split}",
        )
        assert len(data) == count
        assert data.label_table.num_things == 8
        assert cv2.imread(data.get_data_info(0)["img_path"]).shape == (4, 8, 3)


def test_kitti_in_another_size_has_images_and_annotation_alike(kitti, tmp_path):
    out = tmp_path / "half"
    status, _, err = tool.call("kitti", kitti, "--size", 2, 4, "--out-dir", out)
    assert status == 0, err
    data = dataset(out, "annotations/panoptic_val.json", "val", "annotations/panoptic_val")
    info = data.get_data_info(0)
    assert cv2.imread(info["img_path"]).shape == (2, 4, 3)
    assert (
        read_panoptic_png(info["seg_map_path"]) == KITTI[1::2, 1::2] * [[1, 1, 1, 1], [1, 1, 0, 0]]
    ).all()


def test_a_pair_of_two_sizes_is_refused_and_mended(kitti):
    """The authors' own converter leaves training images at their size."""
    write_png(kitti / "training/images/000001_10.png", np.zeros((5, 9, 3), np.uint8))
    status, _, err = tool.call("kitti", kitti)
    assert status == 1
    assert "000001_10.png" in err
    assert "8 x 4" in err
    assert "9 x 5" in err
    assert "--size HEIGHT WIDTH" in err
    assert tool.call("kitti", kitti, "--size", 4, 8, "--out-dir", kitti / "same")[0] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "validation/images/000002_10.png").unlink(), "no image of this name"),
        (
            lambda root: write_ids(root / "validation/annotations/000002_10.png", KITTI + 33),
            "name no class of Cityscapes",
        ),
        (lambda root: (root / "validation").rename(root / "other"), "holds no *.png"),
    ],
)
def test_kitti_says_what_is_wrong(kitti, change, words):
    change(kitti)
    status, _, err = tool.call("kitti", kitti, "--split", "val")
    assert status == 1
    assert words in err


def test_a_second_run_of_kitti_changes_nothing(kitti):
    tool.call("kitti", kitti)
    before = contents(kitti)
    status, out, _ = tool.call("kitti", kitti, "--nproc", 2)
    assert status == 0
    assert "(0 converted now)" in out
    assert contents(kitti) == before


# ---- IDD -------------------------------------------------------------------------------------


def box(label, x, y, width, height, **more):
    """A polygon; PIL's polygons hold their last pixel."""
    x2, y2 = x + width - 1, y + height - 1
    return {"label": label, "polygon": [[x, y], [x2, y], [x2, y2], [x, y2]], **more}


OBJECTS = [
    box("road", 0, 0, 20, 10),
    box("sky", 0, 0, 20, 2),
    box("fallback background", 10, 0, 10, 2),
    box("person", 0, 4, 2, 4),
    box("animal", 3, 4, 2, 4),
    box("persongroup", 6, 4, 2, 4),
    box("caravan", 9, 4, 2, 4),
    box("vehicle fallback", 12, 4, 2, 4),
    box("polegroup", 15, 4, 1, 4),
    box("car", 17, 4, 3, 4),
    box("license plate", 18, 6, 1, 1),
    box("bus", 0, 0, 20, 10, deleted=True),
]


@pytest.fixture
def idd(tmp_path):
    return make_idd(tmp_path / "idd")


def make_idd(root):
    rng = np.random.default_rng(0)
    for split, drive, name, kind in (
        ("train", "201", "frame0029", "png"),
        ("train", "7", "frame1", "jpg"),
        ("val", "119", "903127", "png"),
    ):
        path = root / "gtFine" / split / drive / f"{name}_gtFine_polygons.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"imgHeight": 10, "imgWidth": 20, "objects": OBJECTS}))
        image = root / "leftImg8bit" / split / drive / f"{name}_leftImg8bit.{kind}"
        write_png(image, rng.integers(0, 255, (10, 20, 3)))
    return root


def test_the_classes_are_26_of_which_9_are_things():
    assert [category["id"] for category in CATEGORIES] == list(range(26))
    assert [c["id"] for c in CATEGORIES if c["isthing"]] == list(range(4, 13))
    assert sum(label.level3_id == 255 for label in LABELS.values()) == 5
    assert len(LABELS) == 40
    assert [name for name, label in LABELS.items() if label.ignored] == [
        *("animal", "caravan", "trailer", "train")
    ]


def test_idd_draws_polygons_of_level_3(idd):
    status, out, err = tool.call("idd", idd)
    assert status == 0, err
    assert "train_panoptic: 2 images" in out
    content = read_json(idd / "gtFine/train_panoptic.json")
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [
        ("201_frame0029_gtFine_instancelevel3Ids.png", "201/frame0029_leftImg8bit.png"),
        ("7_frame1_gtFine_instancelevel3Ids.png", "7/frame1_leftImg8bit.jpg"),
    ]
    segments = content["annotations"][0]["segments_info"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = {s["id"]: (names[s["category_id"]], s["iscrowd"], s["area"]) for s in segments}
    assert found == {
        1: ("road", 0, 200 - 40 - 5 * 8 - 4 - 12),
        5: ("person", 1, 8),  # the group
        21: ("pole", 0, 4),  # polegroup is a label of its own
        26: ("sky", 0, 40),  # with fallback background
        4001: ("person", 0, 8),
        4002: ("person", 0, 8),  # the animal: its own number, not that of the person
        9001: ("car", 0, 11),  # without its license plate, which is void
        12001: ("vehicle fallback", 0, 8),
        12002: ("vehicle fallback", 0, 8),
    }


def test_idd_is_read_as_the_config_reads_it(idd):
    tool.call("idd", idd)
    for split, count in (("train", 2), ("val", 1)):
        data = dataset(
            idd,
            f"gtFine/{split}_panoptic.json",
            f"leftImg8bit/{split}",
            f"gtFine/{split}_panoptic",
        )
        assert len(data) == count
        assert (data.label_table.num_things, data.label_table.num_stuff) == (9, 17)
        info = data.get_data_info(0)
        assert read_panoptic_png(info["seg_map_path"]).shape == (10, 20)
        assert cv2.imread(info["img_path"]).shape == (10, 20, 3)


def test_what_the_published_evaluation_ignores_can_be_void(idd):
    tool.call("idd", idd, "--drop-ignored")
    segments = read_json(idd / "gtFine/val_panoptic.json")["annotations"][0]["segments_info"]
    assert [s["id"] for s in segments if s["id"] > 1000] == [4001, 9001, 12001]


def test_label_maps_give_what_the_polygons_give(idd, tmp_path):
    """A map as the published code writes it, of the same scene: segment ids are values plus 1."""
    tool.call("idd", idd, "--split", "val")
    ids = read_panoptic_png(idd / "gtFine/val_panoptic/119_903127_gtFine_instancelevel3Ids.png")
    values = np.where(ids == 0, 255, ids - 1).astype(np.uint16)
    write_png(idd / "gtFine/val/119/903127_gtFine_instancelevel3Ids.png", values)
    out = tmp_path / "maps"
    status, _, err = tool.call("idd", idd, "--split", "val", "--label-maps", "--out-dir", out)
    assert status == 0, err
    drawn, read = (read_json(f / "val_panoptic.json") for f in (idd / "gtFine", out))
    assert read["annotations"] == drawn["annotations"]
    assert read["images"] == drawn["images"]


def test_idd_in_another_size(idd, tmp_path):
    out = tmp_path / "half"
    status, _, err = tool.call("idd", idd, "--size", 5, 10, "--out-dir", out)
    assert status == 0, err
    data = dataset(out, "train_panoptic.json", "images/train", "train_panoptic")
    for index in range(2):
        info = data.get_data_info(index)
        assert cv2.imread(info["img_path"]).shape == (5, 10, 3)
        assert read_panoptic_png(info["seg_map_path"]).shape == (5, 10)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"imgHeight": 10, "objects": []}, "the polygon file lacks imgWidth"),
        ({"imgHeight": 10, "imgWidth": 20, "objects": [box("tram", 0, 0, 3, 3)]}, "label 'tram'"),
        ({"imgHeight": 9, "imgWidth": 20, "objects": OBJECTS}, "the annotation says 20 x 9"),
    ],
)
def test_idd_says_what_is_wrong(idd, content, words):
    path = idd / "gtFine/val/119/903127_gtFine_polygons.json"
    path.write_text(json.dumps(content))
    status, _, err = tool.call("idd", idd, "--split", "val")
    assert status == 1
    assert words in err
    assert path.name in err


@pytest.mark.parametrize("value", [26, 14000, 700])
def test_values_that_are_no_class_are_refused(idd, value):
    values = np.full((10, 20), value, np.uint16)
    write_png(idd / "gtFine/val/119/903127_gtFine_instancelevel3Ids.png", values)
    status, _, err = tool.call("idd", idd, "--split", "val", "--label-maps")
    assert status == 1
    assert f"the value {value} is no class of level 3" in err


def test_options_that_exclude_each_other_are_a_wrong_argument(idd):
    status, _, err = tool.call("idd", idd, "--label-maps", "--drop-ignored")
    assert status == 2
    assert "needs the polygons" in err


def test_resizing_takes_the_value_at_the_centre_of_a_pixel():
    ids = np.arange(12).reshape(3, 4)
    assert resize_ids(ids, (3, 4)).tolist() == ids.tolist()
    assert resize_ids(ids, (1, 2)).tolist() == [[5, 7]]
    assert resize_ids(ids, (6, 4))[::2].tolist() == ids.tolist()
