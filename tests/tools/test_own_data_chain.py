"""The three commands of docs/train_on_your_own_data.md: own maps to a model and its PQ."""

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.checkpoints import load_checkpoint

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


def printed_commands(text):
    """Return the commands at the end of a conversion, in words."""
    lines = text.split("next, to check, train and test:\n")[1].splitlines()
    return [shlex.split(line) for line in lines if line.startswith("  python ")]


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
    small = ["short_edge=64", "max_size=96", "crop_size=(64,64)", "num_workers=0"]
    small += ["max_iters=4", "batch_size=2", "warmup_iters=1"]
    outputs = {}
    for words in printed_commands(made.stdout):
        tool = "/".join(Path(words[1]).parts[-2:]).removeprefix("tools/")
        done = run_tool(tool, *words[2:], *(small if "--cfg-options" in words else ()))
        outputs[tool] = done.stdout + done.stderr
    assert set(outputs) == {"dataset_converters/check.py", "train.py", "test.py"}
    for name in ("red ball", "blue ball", "grass", "sky", "coco_panoptic/PQ:"):
        assert name in outputs["test.py"]
    assert "no errors" in outputs["dataset_converters/check.py"]
    # what the sizes of the balls ask for is said by all three, and the test takes the model's
    assert "size_nms_kernel = " in outputs["dataset_converters/check.py"]
    assert "size_nms_kernel " in outputs["train.py"]
    assert "panoptic_train.json, of diameter" in outputs["train.py"]
    assert "from the checkpoint" in outputs["test.py"]
    kept = load_checkpoint(f"work_dirs/{CONFIG}/iter_4.pth")["meta"]["size_settings"]
    assert kept["size_sigma"] >= 2


def test_the_printed_options_survive_spaces(mine, run_tool):
    mine.rename(mine.with_name("my own"))
    made = run_tool(
        *("dataset_converters/own_data.py", "data/out", "--classes", "data/my own/classes.yaml"),
        *("--images", "data/my own/photos", "--labels", "data/my own/labels", "--components"),
    )
    check, train, test = printed_commands(made.stdout)
    assert check[2:] == [
        "data/out/annotations/panoptic_train.json",
        "--img-dir",
        "data/my own/photos",
    ]
    options = [
        "data_root=data/out",
        "val_ann_file=annotations/panoptic_train.json",
        "val_seg=annotations/panoptic_train/",
        "train_img=../my own/photos/",
        "val_img=../my own/photos/",
    ]
    assert train[2:] == [CONFIG, "--cfg-options", *options]
    assert test[2:] == [f"work_dirs/{CONFIG}"]  # which has the options
    for words in (check, train, test):
        assert Path(words[1]).is_file()
