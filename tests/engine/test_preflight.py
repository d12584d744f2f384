"""What cannot work is said before the first iteration."""

import shutil

import pytest

from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from tests.tools.load_tool import load_tool

CONFIG = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("preflight") / "shapes"
    generate_shapes(root, {"train": 4, "val": 2}, ShapesSettings(64, 48))
    return root


@pytest.fixture
def data(made, tmp_path):
    return shutil.copytree(made, tmp_path / "data")


@pytest.fixture
def train(tmp_path, capsys, data):
    def run(*options):
        small = [f"data_root={data}", "max_iters=1", "batch_size=2", "num_workers=0"]
        words = ["--work-dir", str(tmp_path / "run"), "--no-validate", "--cfg-options", *small]
        status = load_tool("train.py").main([CONFIG, *words, *options])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def told(text):
    """The lines of an error, without the one that says what begins."""
    assert "Traceback" not in text
    assert "1/1  loss" not in text
    return text[text.index("error: ") :]


def test_a_wrong_folder_is_named(train, data):
    status, text = train("train_img=nowhere/")
    assert status == 1
    assert "there is no folder" in told(text)
    assert "nowhere" in told(text)
    assert f"below data_root '{data}', see data_prefix=dict(img=...)" in told(text)


def test_an_empty_folder_is_named(train, data):
    for path in (data / "train").iterdir():
        path.unlink()
    status, text = train()
    assert status == 1
    assert "cannot read the image: No such file or directory" in told(text)


def test_a_missing_folder_of_annotations_is_named(train, data):
    shutil.rmtree(data / "annotations/panoptic_train")
    status, text = train()
    assert status == 1
    assert "there is no folder" in told(text)
    assert "panoptic_train" in told(text)


def test_the_last_image_is_looked_at(train, data):
    (data / "train" / "000004.jpg").write_bytes(b"no image")
    status, text = train()
    assert status == 1
    assert "000004.jpg" in told(text)


def test_the_policy_of_passing_over_errors_is_kept(train, data):
    (data / "train" / "000004.jpg").write_bytes(b"no image")
    status, text = train("train_dataloader.dataset.on_error=skip")
    assert status == 0, text


def test_wrong_class_names_are_named(train):
    classes = "{'classes': ['dog', 'road'], 'isthing': [True, False], 'dataset_ids': [1, 2]}"
    own = "dataset_type=PanopticDataset"
    status, text = train(own, f"train_dataloader.dataset.metainfo={classes}")
    assert status == 1
    assert "dog" in told(text)
    assert "category 1 (disk), isthing 1, is dog" in told(text)


def test_a_batch_larger_than_the_data_is_a_warning(train):
    status, text = train("batch_size=5")
    assert status == 0
    assert "an iteration takes 5 images, the training data have 4" in text


def test_a_window_that_is_mostly_padding_is_a_warning(train):
    status, text = train(
        "train_pipeline.3.crop_size=(256, 512)", "train_pipeline.2.target_size=(48, 64)"
    )
    assert status == 0
    assert "a window of 256 x 512 is mostly padding; take a smaller crop_size" in text
