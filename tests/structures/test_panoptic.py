import numpy as np

from mmpanoptic.structures import make_panoptic_data, semantic_map, to_mmdet_panoptic

SEGMENTS = [
    {"id": 9, "label": 3, "isthing": True},
    {"id": 4, "label": 0, "isthing": False},
    {"id": 5, "label": 3, "isthing": True},
]
INDEX_MAP = np.array([[0, 1, 1], [2, 2, 3]], np.uint8)


def test_index_map_becomes_labels():
    data = make_panoptic_data(INDEX_MAP, SEGMENTS)
    assert data.index_map.shape == (1, 2, 3)
    assert semantic_map(data)[0].tolist() == [[255, 3, 3], [0, 0, 3]]


def test_mmdet_encoding_numbers_instances_and_keeps_void_apart_from_class_0():
    data = make_panoptic_data(INDEX_MAP, SEGMENTS)
    assert to_mmdet_panoptic(data, 4)[0].tolist() == [[4, 1003, 1003], [0, 0, 2003]]
