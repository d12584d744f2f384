"""The three commands of docs/train_on_your_own_data.md: own maps to a model and its PQ."""

import re
import shlex

import cv2
import numpy as np
import pytest

CONFIG = "panoptic-deeplab_r18-tiny_1xb4-5k_own"
CLASSES = """
classes:
  - {name: red ball, value: 1, thing: true, color: [220, 30, 30]}
  - {name: blue ball, value: 2, thing: true}
  - {name: grass, value: 3, thing: false}
  - {name: sky, value: 300, thing: false}
ignore: [0]
"""


def draw(rng, height, width):
    """Return image, label map and instance map: balls in front of grass and sky."""
    labels = np.full((height, width), 3, np.uint16)
    labels[: height // 3] = 300
    instances = np.zeros((height, width), np.uint16)
    for number in range(1, 5):
        ball = np.zeros((height, width), np.uint8)
        center = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(ball, center, int(rng.integers(8, 20)), 1, -1)
        labels[ball > 0], instances[ball > 0] = 1 + number % 2, 1000 + number
    labels[-3:] = 0
    colors = {
        0: (0, 0, 0),
        1: (30, 30, 220),
        2: (220, 60, 30),
        3: (60, 120, 60),
        300: (200, 160, 8),
    }
    image = np.zeros((height, width, 3), np.uint8)
    for value, color in colors.items():
        image[labels == value] = color
    return image, labels, instances


@pytest.fixture
def mine(run_tool):
    """Ten images of different sizes, JPG and PNG, with 16-bit and 8-bit maps."""
    root, rng = run_tool.folder / "data" / "mine", np.random.default_rng(0)
    for number in range(10):
        height, width = rng.integers(60, 120, 2).tolist()
        image, labels, instances = draw(rng, height, width)
        if number % 2:
            instances = (instances % 1000).astype(np.uint8)
        extension = ("jpg", "png")[number % 2]
        maps = {f"labels/{number}.png": labels, f"instances/{number}.png": instances}
        for name, values in {f"photos/{number}.{extension}": image, **maps}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / name), values)
    (root / "classes.yaml").write_text(CLASSES)
    return root


def test_own_maps_become_a_model_and_its_quality(mine, run_tool):
    made = run_tool(
        *("dataset_converters/own_data.py", "data/mine", "--classes", "data/mine/classes.yaml"),
        *("--images", "data/mine/photos", "--labels", "data/mine/labels"),
        *("--instances", "data/mine/instances", "--val", 2, "--nproc", 2),
    )
    printed = re.search(r"config: (--cfg-options .*)", made.stdout)[1]
    small = ["short_edge=64", "max_size=96", "crop_size=(64,64)", "num_workers=0"]
    options = [*shlex.split(printed), "max_iters=4", "batch_size=2", "warmup_iters=1", *small]
    run_tool("train.py", CONFIG, *options)
    done = run_tool("test.py", CONFIG, f"work_dirs/{CONFIG}", *options)
    output = done.stdout + done.stderr
    for name in ("red ball", "blue ball", "grass", "sky", "coco_panoptic/PQ:"):
        assert name in output
    checked = run_tool(
        "dataset_converters/check.py",
        *("data/mine/annotations/panoptic_val.json", "--img-dir", "data/mine/photos"),
    )
    assert "no errors" in checked.stdout


def test_the_printed_options_survive_spaces(mine, run_tool):
    mine.rename(mine.with_name("my own"))
    made = run_tool(
        *("dataset_converters/own_data.py", "data/out", "--classes", "data/my own/classes.yaml"),
        *("--images", "data/my own/photos", "--labels", "data/my own/labels", "--components"),
    )
    printed = re.search(r"config: (--cfg-options .*)", made.stdout)[1]
    expected = ["--cfg-options", "data_root=data/out", "train_img=../my own/photos/"]
    assert shlex.split(printed) == expected
