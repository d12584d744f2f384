import numpy as np
import pytest

from mmpanoptic.datasets.shapes import SHAPES_TABLE, ShapesSettings, generate_shapes, make_scene
from mmpanoptic.registry import DATASETS

SETTINGS = ShapesSettings(96, 64)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    generate_shapes(root, {"train": 4}, SETTINGS)
    return root


def build(root, **extras):
    return DATASETS.build(
        {
            "type": "ShapesDataset",
            "ann_file": "annotations/panoptic_train.json",
            "data_root": str(root),
            "data_prefix": {"img": "train", "seg": "annotations/panoptic_train"},
            "pipeline": [{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}],
            **extras,
        }
    )


def test_items_are_the_drawn_scenes(root):
    dataset = build(root)
    assert len(dataset) == 4
    assert dataset.label_table == SHAPES_TABLE
    for index in range(4):
        scene, item = make_scene(SETTINGS, "train", index), dataset[index]
        assert np.abs(item["img"].astype(int) - scene.image).mean() < 6  # JPEG
        for k, segment in enumerate(item["segments_info"], start=1):
            assert np.array_equal(item["gt_seg_map"] == k, scene.ids == segment["id"])


def test_amodal_instances_can_be_had(root):
    dataset = build(root, instances_file="annotations/instances_train.json", pipeline=[])
    for index in range(4):
        assert len(dataset[index]["instances"]) == len(make_scene(SETTINGS, "train", index).masks)
