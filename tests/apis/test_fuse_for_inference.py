"""Folded batch normalisations leave the outputs of every system as they are."""

import copy

import pytest
import torch
from torch import nn

from mmpanoptic.apis import PanopticInferencer, init_model
from mmpanoptic.apis.inferencer import fuse_for_inference

SYSTEMS = [
    "auto-panoptic_tiny_1xb8-500_shapes",
    "cops_r18-tiny_pretrain_1xb8-600_shapes",
    "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "efficientps-solov2_b0-tiny_1xb8-600_shapes",
    "panoptic-deeplab_h8-tiny_1xb8-900_shapes",
    "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "panoptic-deeplab_x65-tiny_1xb8-700_shapes",
    "rap_r18-tiny_relation-finetune_1xb8-2k_shapes",
    "solov2_r18-tiny_1xb8-1k_shapes",
]


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def tensors(outputs):
    """All tensors in nested outputs."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if not isinstance(outputs, list | tuple):
        return []
    return [tensor for part in outputs for tensor in tensors(part)]


@pytest.mark.parametrize("config", SYSTEMS)
def test_outputs_stay(config):
    torch.manual_seed(0)
    model = init_model(config, None, "cpu")
    for norm in norms(model):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.1)
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = tensors(model(image, mode="tensor"))
        fused = fuse_for_inference(copy.deepcopy(model))
        found = tensors(fused(image, mode="tensor"))
    assert norms(model)
    assert not norms(fused)
    assert fused.channels_last
    assert expected
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * float(one.abs().max()))


def test_the_inferencer_fuses_on_request():
    assert norms(PanopticInferencer(SYSTEMS[5], device="cpu").model)
    assert not norms(PanopticInferencer(SYSTEMS[5], device="cpu", fuse=True).model)
