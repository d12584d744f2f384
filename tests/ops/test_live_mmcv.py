"""The operators beside those of a full mmcv in the same process, at larger sizes."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from mmpanoptic.ops import pytorch_only
from mmpanoptic.ops.backends import full_mmcv_installed
from tests.data.golden.ops import generate
from tests.ops.cases import COMPILED_ON_CPU, RUNNERS, provided_operators

pytestmark = [
    pytest.mark.optional,
    pytest.mark.skipif(not full_mmcv_installed(), reason="needs the full mmcv"),
]

MAKERS = (
    generate.nms_cases,
    generate.soft_nms_cases,
    generate.other_nms_cases,
    generate.roi_cases,
    generate.conv_cases,
)


def compare(operator, params, inputs, tolerance=1e-5):
    expected = RUNNERS[operator](params, inputs)
    with provided_operators(), pytorch_only():
        got = RUNNERS[operator](params, inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_operator_equals_compiled_one(maker, seed):
    for operator, params, inputs in maker(np.random.default_rng(seed)):
        if operator in COMPILED_ON_CPU:
            compare(operator, params, inputs)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("clusters", [5, 2000])
def test_nms_of_many_boxes_equals_compiled_one(clusters, threshold):
    rng = np.random.default_rng(0)
    boxes = generate._boxes(rng, 5000, clusters)
    boxes[::7] = boxes[0]
    boxes[1::50, 2:] = boxes[1::50, :2] - 3
    scores = (rng.permutation(5000) / 5000).astype(np.float32)
    compare("nms", {"iou_threshold": threshold}, {"boxes": boxes, "scores": scores})


def test_the_compiled_module_is_left_in_place():
    import mmcv._ext

    assert importlib.util.find_spec("mmcv._ext").origin.endswith(".so")
    assert sys.modules["mmcv.ops.nms"].ext_module is mmcv._ext
