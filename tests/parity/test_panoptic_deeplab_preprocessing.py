"""Resizing of Panoptic-DeepLab's images and label maps against detectron2's numbers.

Every parameter comes from the golden files; see ``tests/data/golden/panoptic_deeplab/README.md``.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmpanoptic.datasets.transforms.loading import index_segments
from mmpanoptic.datasets.transforms.resize import resize_sample, shortest_edge_size
from tests.golden import golden_files

SYSTEM = "panoptic_deeplab"
PIL_FILES = golden_files(SYSTEM, "resize_pil*.npz")
SHAPE_FILES = golden_files(SYSTEM, "resize_shapes*.json")


def outputs(golden) -> list[int]:
    return [
        int(key[3:-6]) for key in golden.files if key.startswith("out") and key.endswith("_image")
    ]


@pytest.mark.parametrize("path", PIL_FILES, ids=lambda path: path.stem)
def test_resized_images_and_labels_have_equal_bits(path):
    golden = np.load(path)
    ids = golden["ids"]
    segments = [{"id": int(number)} for number in np.unique(ids) if number != 0]
    index_map, unlisted = index_segments(ids, segments)
    assert not len(unlisted)
    numbers = np.array([0, *(segment["id"] for segment in segments)])
    cases = outputs(golden)
    assert cases
    for case in cases:
        expected = golden[f"out{case}_image"]
        results = {"img": golden["image"], "gt_seg_map": index_map}
        resize_sample(results, expected.shape[:2], "pillow")
        np.testing.assert_array_equal(results["img"], expected)
        np.testing.assert_array_equal(numbers[results["gt_seg_map"]], golden[f"out{case}_ids"])


@pytest.mark.parametrize("path", SHAPE_FILES, ids=lambda path: path.stem)
def test_sizes_follow_the_shortest_edge_rule(path):
    content = json.loads(path.read_text())
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    assert rows
    for row in rows:
        size = shortest_edge_size(row["h"], row["w"], row["short_edge"], row["max_size"])
        assert size == (row["new_h"], row["new_w"]), row
