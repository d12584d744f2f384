"""What torch's users do with any model: other types of numbers, copies, saving it whole."""

import copy
import io
from functools import cache

import numpy as np
import pytest
import torch

from mmpanoptic.apis import PanopticInferencer

from .test_contract import SYSTEMS

PANOPTIC = [name for name in SYSTEMS if not name.startswith("solov2")]
IMAGE = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
each_system = pytest.mark.parametrize("system", PANOPTIC)


@cache
def inferencer_of(system):
    torch.manual_seed(0)
    return PanopticInferencer(system, None, device="cpu")


def predict(system, model):
    other = copy.copy(inferencer_of(system))
    other.model = model
    return other(IMAGE)[0]


@each_system
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_weights_of_any_type_predict(system, dtype):
    model = copy.deepcopy(inferencer_of(system).model).to(dtype)
    result = predict(system, model)
    assert result.panoptic_seg.shape == IMAGE.shape[:2]
    assert all(np.isfinite(segment.get("score", 0)) for segment in result.segments_info)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def reloaded(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)  # our own bytes


@each_system
@pytest.mark.parametrize("clone", [copy.deepcopy, reloaded])
def test_clones_predict_the_same(system, clone):
    model = inferencer_of(system).model
    expected, found = predict(system, model), predict(system, clone(model))
    assert np.array_equal(found.panoptic_seg, expected.panoptic_seg)
    assert found.segments_info == expected.segments_info
