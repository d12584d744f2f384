"""Who lies in front of whom survives what the pipeline does to the instances."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.datasets.transforms.source_grid import SourceGrid
from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.structures import occluder_matrix, relation_matrix
from tests.datasets.tiny_data import HEIGHT, WIDTH, dataset_args, write_dataset

# The second lies in front of the first, the third (a crowd) and the fourth in front of both.
BOXES = ((2, 2, 20, 20), (12, 8, 30, 25), (0, 0, 40, 12), (25, 20, 50, 38))
IDS = (901, 17, 44, 5)
OVERLAP = ((17, 44, 5), (44, 5, 777), (), ())


def polygon(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def annotated():
    return [
        {"id": i, "label": 1, "iscrowd": int(i == 44), "mask": polygon(*box), "overlap": list(o)}
        for i, box, o in zip(IDS, BOXES, OVERLAP, strict=True)
    ]


def pack(instances, *steps):
    pipeline = Compose(
        [TRANSFORMS.build({"type": name, **options}) for name, options in steps]
        + [TRANSFORMS.build({"type": "PackPanopticInputs", "with_instances": True})]
    )
    data = {
        "img": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        "img_shape": (HEIGHT, WIDTH),
        "ori_shape": (HEIGHT, WIDTH),
        "height": HEIGHT,
        "width": WIDTH,
        "gt_seg_map": np.ones((HEIGHT, WIDTH), np.uint8),
        "segments_info": [{"id": 1, "label": 0, "isthing": False, "iscrowd": 0}],
        "instances": instances,
        "source_grid": SourceGrid.identity(HEIGHT, WIDTH),
    }
    return pipeline(data)["data_samples"].gt_instances


def named_pairs(instances):
    ids = instances.instance_id.tolist()
    return {(ids[i], ids[j]) for i, j in relation_matrix(instances).nonzero().tolist()}


EXPECTED = {(17, 901), (5, 901), (5, 17)}


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (("PanopticRandomFlip", {"prob": 1.0}),),
        (("ResizeShortestEdge", {"short_edge": 61, "max_size": 100}),),
    ],
    ids=["as it is", "flip", "resize"],
)
def test_pairs_survive_geometry(steps):
    found = pack(annotated(), *steps)
    assert found.instance_id.tolist() == [901, 17, 5]
    assert named_pairs(found) == EXPECTED


def test_pairs_follow_instances_that_a_crop_removes():
    for seed in range(20):
        np.random.seed(seed)
        found = pack(annotated(), ("RandomCrop", {"crop_size": (12, 14)}))
        left = set(found.instance_id.tolist())
        assert named_pairs(found) == {p for p in EXPECTED if set(p) <= left}


@pytest.mark.parametrize("keep", [[True, False, True], [False, True, True], [False] * 3])
def test_pairs_follow_filters(keep):
    found = pack(annotated())[torch.tensor(keep)]
    left = set(found.instance_id.tolist())
    assert named_pairs(found) == {p for p in EXPECTED if set(p) <= left}
    order = torch.arange(len(found)).flip(0)
    assert named_pairs(found[order]) == named_pairs(found)


def test_annotations_without_relations_have_no_field():
    plain = [{k: v for k, v in one.items() if k != "overlap"} for one in annotated()]
    found = pack(plain)
    assert "occluders" not in found
    assert occluder_matrix(plain) is None
    with pytest.raises(ValueError, match=r"coco_relations\.py"):
        relation_matrix(found)
    assert relation_matrix(found[:0]).shape == (0, 0)


def test_an_image_without_instances_has_no_pairs():
    assert relation_matrix(pack([])).shape == (0, 0)


def test_images_without_relations_can_be_left_out(tmp_path):
    tmp_path = tmp_path / "set"
    content = write_dataset(tmp_path, count=3)
    related = content["images"][1]["id"]
    instances = [
        {
            "id": number,
            "image_id": image["id"],
            "category_id": 0,
            "segmentation": polygon(*BOXES[number % 2]),
            "overlap": [number + 1] if image["id"] == related and number % 2 == 0 else [],
        }
        for number, image in enumerate([one for one in content["images"] for _ in range(2)])
    ]
    (tmp_path / "instances.json").write_text(json.dumps({**content, "annotations": instances}))
    options = {**dataset_args(tmp_path), "filter_unrelated": True}
    kept = PanopticDataset(**options, instances_file="instances.json")
    assert [kept.get_data_info(k)["img_id"] for k in range(len(kept))] == [related]
    test = PanopticDataset(**options, instances_file="instances.json", test_mode=True)
    assert len(test) == 3
    with pytest.raises(ValueError, match=r"coco_relations\.py"):
        PanopticDataset(**options)
