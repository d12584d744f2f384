import cv2
import numpy as np
import pytest
import torch

from mmpanoptic.datasets import ImageFolderDataset, ImageNetDataset, SampleIndex, read_label_table

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "RandomAreaCrop", "size": 16},
    {"type": "ColorFactors"},
    {"type": "PackClassInputs"},
]


@pytest.fixture
def root(tmp_path):
    rng = np.random.RandomState(0)
    for part in ("train", "val"):
        for name, count in (("dog", 3), ("cat", 2)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(folder / f"{i}.png"), rng.randint(0, 256, (24, 40, 3)))
            (folder / "notes.txt").write_text("no image")
    return tmp_path


def test_images_are_numbered_by_the_order_of_their_folders(root):
    data = ImageFolderDataset(str(root), "train", pipeline=PIPELINE)
    labels = [int(data[i]["data_samples"].gt_label) for i in range(len(data))]
    assert labels == [0, 0, 1, 1, 1]
    assert list(data.metainfo["classes"]) == ["cat", "dog"]
    assert data[0]["data_samples"].img_id == "cat/0.png"
    assert data[0]["inputs"].shape == (3, 16, 16)
    assert data[0]["inputs"].dtype == torch.uint8


def test_augmentation_follows_from_seed_epoch_and_image(root):
    one, two = (ImageFolderDataset(str(root), "train", pipeline=PIPELINE, seed=4) for _ in "ab")
    first = one[SampleIndex(3, epoch=2)]["inputs"]
    assert torch.equal(first, two[SampleIndex(3, epoch=2)]["inputs"])
    assert not torch.equal(first, two[SampleIndex(3, epoch=1)]["inputs"])


def test_classes_are_known_without_the_data():
    cfg = {"type": "ImageNetDataset", "data_root": "nowhere", "folder": "train"}
    assert len(read_label_table(cfg)) == 1000
    cfg = {**cfg, "type": "ImageFolderDataset", "metainfo": {"classes": ["a", "b"]}}
    assert read_label_table(cfg).num_things == 2


def test_another_number_of_folders_is_an_error(root):
    with pytest.raises(ValueError, match="2 folders, but the config names 1000 classes"):
        ImageNetDataset(str(root), "train")


def test_a_missing_folder_is_an_error(root):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*test"):
        ImageFolderDataset(str(root), "test")
    (root / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="hold no images"):
        ImageFolderDataset(str(root), "empty")


def test_a_part_of_the_images_can_be_used(root):
    every, first, chosen = (
        ImageFolderDataset(str(root), "train", pipeline=PIPELINE, indices=indices)
        for indices in (None, 2, [4, 0])
    )
    names = [every.get_data_info(i)["img_id"] for i in range(len(every))]
    for part, expected in ((first, [0, 1]), (chosen, [4, 0])):
        assert [part.get_data_info(i)["img_id"] for i in range(len(part))] == [
            names[i] for i in expected
        ]
