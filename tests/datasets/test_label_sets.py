from __future__ import annotations

import json

from mmpanoptic.datasets.label_sets import CITYSCAPES, COCO_PANOPTIC

from .real_mini import REAL_MINI, needs_real_mini


def test_cityscapes_lists_stuff_before_things_with_sparse_ids():
    assert len(CITYSCAPES) == 19
    assert CITYSCAPES.thing_labels == list(range(11, 19))
    assert CITYSCAPES.dataset_ids.tolist() == [
        *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    ]
    assert CITYSCAPES.by_dataset_id(26).name == "car"


def test_coco_has_the_published_gaps_in_its_ids():
    assert (COCO_PANOPTIC.num_things, COCO_PANOPTIC.num_stuff) == (80, 53)
    assert COCO_PANOPTIC.thing_labels == list(range(80))
    things = COCO_PANOPTIC.dataset_ids[:80].tolist()
    gaps = sorted(set(range(1, 91)) - set(things))
    assert gaps == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert COCO_PANOPTIC.dataset_ids[[80, -1]].tolist() == [92, 200]
    assert sorted(COCO_PANOPTIC.dataset_ids.tolist()) == COCO_PANOPTIC.dataset_ids.tolist()


@needs_real_mini
def test_coco_agrees_with_the_categories_of_the_official_file():
    file = REAL_MINI / "coco/annotations/panoptic_val2017.json"
    categories = json.loads(file.read_text())["categories"]
    assert [(c["id"], c["name"], bool(c["isthing"])) for c in categories] == [
        (label.dataset_id, label.name, label.isthing) for label in COCO_PANOPTIC
    ]
