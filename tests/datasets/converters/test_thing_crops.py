import json

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.thing_crops import cut_things
from mmpanoptic.utils.format_errors import PanopticFormatError

CATEGORIES = [
    {"id": 3, "name": "cell", "isthing": 1},
    {"id": 5, "name": "nucleus", "isthing": 1},
    {"id": 9, "name": "ground", "isthing": 0},
]


@pytest.fixture
def source(tmp_path):
    image = np.arange(40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "one.png"), image)
    segments = [
        {"id": 1, "category_id": 3, "bbox": [20, 10, 20, 10], "iscrowd": 0},
        {"id": 2, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 0},
        {"id": 3, "category_id": 5, "bbox": [50, 30, 10, 10], "iscrowd": 0},
        {"id": 4, "category_id": 5, "bbox": [0, 0, 30, 30], "iscrowd": 1},
        {"id": 5, "category_id": 9, "bbox": [0, 0, 60, 40], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 1, "file_name": "one.png", "height": 40, "width": 60}],
        "annotations": [{"image_id": 1, "file_name": "one.png", "segments_info": segments}],
        "categories": CATEGORIES,
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return tmp_path, image


def cut(root, **options):
    arguments = {"margin": 0.1, "min_side": 8, "nproc": 1, **options}
    return cut_things(root / "panoptic.json", root / "images", root / "out", **arguments)


def test_every_thing_gets_a_square_window(source):
    root, image = source
    left_out = "1 with less than 8 pixels left out, 1 crowds left out"
    assert cut(root) == [f"{root / 'out'}: 2 things of 1 images, {left_out}"]
    folders = [path.name for path in (root / "out").iterdir() if path.is_dir()]
    assert sorted(folders) == ["cell", "nucleus"]
    window = cv2.imread(str(root / "out" / "cell" / "one_1.png"))
    # 20 wide, 2 more on every side; the box's middle is (30, 15)
    np.testing.assert_array_equal(window, image[3:27, 18:42])


def test_windows_end_with_the_image(source):
    root, image = source
    cut(root)
    window = cv2.imread(str(root / "out" / "nucleus" / "one_3.png"))
    np.testing.assert_array_equal(window, image[29:, 49:])


def test_crops_stay_until_something_changes(source):
    root, image = source
    cut(root)
    file = root / "out" / "cell" / "one_1.png"
    before = file.stat().st_mtime_ns
    cut(root)
    assert file.stat().st_mtime_ns == before
    cut(root, margin=0)
    np.testing.assert_array_equal(cv2.imread(str(file)), image[5:25, 20:40])
    cv2.imwrite(str(root / "images" / "one.png"), image[::-1])
    cut(root, margin=0)
    np.testing.assert_array_equal(cv2.imread(str(file)), image[::-1][5:25, 20:40])


def change(root, edit):
    content = json.loads((root / "panoptic.json").read_text())
    edit(content)
    (root / "panoptic.json").write_text(json.dumps(content))


def test_images_of_one_name_in_two_folders_stay_apart(source):
    root, image = source
    for name in ("x", "y"):
        (root / "images" / name).mkdir()
        cv2.imwrite(str(root / "images" / name / "1.png"), image)
    segments = [{"id": 1, "category_id": 3, "bbox": [20, 10, 20, 10], "iscrowd": 0}]

    def edit(content):
        for number, name in enumerate(("x", "y"), 5):
            file = {"file_name": f"{name}/1.png"}
            size = {"height": 40, "width": 60}
            content["images"].append({"id": number, **file, **size})
            entry = {"image_id": number, **file, "segments_info": segments}
            content["annotations"].append(entry)

    change(root, edit)
    assert "4 things of 3 images" in cut(root)[0]
    assert sorted(path.name for path in (root / "out" / "cell").glob("*.png")) == [
        "one_1.png",
        "x_1_1.png",
        "y_1_1.png",
    ]
    change(root, lambda content: content["images"][1].update(file_name="one.jpg"))
    with pytest.raises(ValueError, match=r"would both be cut into .*one_1.png; rename one"):
        cut(root)


def test_what_cannot_be_cut_is_an_error(source):
    root, image = source
    with pytest.raises(ValueError, match="margin"):
        cut(root, margin=-1)
    first = ("annotations", 0, "segments_info", 0)

    def put(field, value):
        def edit(content):
            content[first[0]][first[1]][first[2]][first[3]][field] = value

        change(root, edit)

    put("bbox", [70, 10, 20, 10])
    with pytest.raises(PanopticFormatError, match="outside of its image"):
        cut(root)
    put("bbox", None)
    with pytest.raises(PanopticFormatError, match="the segment 1 has no bbox"):
        cut(root)
    put("bbox", [20, 10, 20, 10])
    change(root, lambda content: content["categories"][0].update(name="a/b"))
    with pytest.raises(ValueError, match="'a/b' cannot name a folder"):
        cut(root)
    change(root, lambda content: content["categories"][0].update(name="cell"))
    cv2.imwrite(str(root / "images" / "one.png"), image[:20])
    with pytest.raises(PanopticFormatError, match="60 x 20"):
        cut(root)
    (root / "images" / "one.png").unlink()
    with pytest.raises(PanopticFormatError, match="missing_file"):
        cut(root)
