from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmpanoptic.evaluation import Categories
from mmpanoptic.evaluation.panoptic_checks import ProblemLog
from mmpanoptic.evaluation.predictions import read_prediction
from mmpanoptic.structures import make_panoptic_data

CATEGORIES = Categories((5, 2, 9), ("sky", "cat", "dog"), (False, True, True))
MAP = torch.tensor([[0, 1, 1], [2, 2, 1]])


def read(pred) -> tuple:
    problems = ProblemLog()
    return read_prediction(pred, CATEGORIES, problems), [p.kind for p in problems.errors]


def table(prediction) -> list[tuple[int, float]]:
    segments = prediction.segments
    return list(zip(segments.category[1:].tolist(), segments.area[1:].tolist(), strict=True))


def id_map(values, info) -> PixelData:
    data = PixelData(metainfo={"segments_info": info})
    data.id_map = torch.as_tensor(values)[None]
    return data


def test_index_map_with_labels_or_category_ids():
    info = [{"label": 2, "score": 0.25}, {"category_id": 5}]
    prediction, kinds = read(make_panoptic_data(MAP, info))
    assert kinds == []
    assert table(prediction) == [(2, 3), (0, 2)]
    assert prediction.scores == [0.25, None]
    np.testing.assert_array_equal(prediction.segments.expand(), MAP.numpy())


def test_id_map_is_numbered_in_the_order_of_the_list():
    info = [{"id": 900, "label": 1}, {"id": 7, "label": 0}]
    prediction, kinds = read(id_map([[7, 7], [0, 900]], info))
    assert kinds == []
    np.testing.assert_array_equal(prediction.segments.expand(), [[2, 2], [0, 1]])


def test_mmdet_map_is_numbered_by_label_then_instance():
    codes = torch.tensor([[3, 2001, 1001, 1002, 0, 1003]])
    prediction, kinds = read(PixelData(sem_seg=codes[None]))
    assert kinds == []
    np.testing.assert_array_equal(prediction.segments.expand(), [[0, 3, 2, 4, 1, 0]])
    assert table(prediction) == [(0, 1), (1, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("pred", "kind"),
    [
        (make_panoptic_data(MAP, [{"label": 1}]), "png_id_not_in_json"),
        (make_panoptic_data(-MAP, [{"label": 1}]), "png_id_not_in_json"),
        (make_panoptic_data(MAP, [{"label": 1}] * 3), "json_id_not_in_png"),
        (make_panoptic_data(MAP, [{"label": 1}, {"label": 3}]), "unknown_category"),
        (make_panoptic_data(MAP, [{"label": 1}, {"label": -1}]), "unknown_category"),
        (make_panoptic_data(MAP, [{"label": 1}, {"category_id": 3}]), "unknown_category"),
        (make_panoptic_data(MAP, [{"label": 1}, {}]), "missing_field"),
        (id_map(MAP, [{"id": 1, "label": 1}]), "png_id_not_in_json"),
        (id_map(MAP, [{"id": k, "label": 1} for k in (0, 1, 2)]), "zero_id"),
        (id_map(MAP, [{"id": k, "label": 1} for k in (1, 1, 2)]), "duplicate_segment_id"),
        (PixelData(sem_seg=torch.tensor([[[4]]])), "unknown_category"),
        (PixelData(sem_seg=torch.tensor([[[-1]]])), "unknown_category"),
    ],
)
def test_broken_predictions_have_a_kind(pred, kind):
    prediction, kinds = read(pred)
    assert prediction is None
    assert kind in kinds


def test_a_prediction_without_a_known_map_is_explained():
    with pytest.raises(ValueError, match="make_panoptic_data"):
        read(PixelData(scores=torch.zeros(1, 2, 2)))


def test_a_map_without_segments_is_explained():
    with pytest.raises(ValueError, match="no segments_info"):
        read(PixelData(index_map=MAP[None]))


def test_all_void_is_a_valid_prediction():
    prediction, kinds = read(make_panoptic_data(torch.zeros(4, 3), []))
    assert kinds == []
    assert prediction.segments.ids.tolist() == [0]
