import json

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters.thing_crops import cut_things

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
    assert cut(root) == [f"{root / 'out'}: 2 things of 1 images"]
    assert sorted(path.name for path in (root / "out").iterdir()) == ["cell", "nucleus"]
    window = cv2.imread(str(root / "out" / "cell" / "one_1.png"))
    # 20 wide, 2 more on every side; the box's middle is (30, 15)
    np.testing.assert_array_equal(window, image[3:27, 18:42])


def test_windows_end_with_the_image(source):
    root, image = source
    cut(root)
    window = cv2.imread(str(root / "out" / "nucleus" / "one_3.png"))
    np.testing.assert_array_equal(window, image[29:, 49:])


def test_files_that_are_there_stay(source):
    root, _ = source
    cut(root)
    file = root / "out" / "cell" / "one_1.png"
    file.write_bytes(b"kept")
    cut(root)
    assert file.read_bytes() == b"kept"


def test_what_cannot_be_cut_is_an_error(source):
    root, _ = source
    with pytest.raises(ValueError, match="margin"):
        cut(root, margin=-1)
    content = json.loads((root / "panoptic.json").read_text())
    del content["annotations"][0]["segments_info"][0]["bbox"]
    (root / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no bbox"):
        cut(root)
