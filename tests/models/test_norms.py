"""Batch norms count a batch once, whatever is computed again; kept ones count none."""

import copy

import pytest
import torch
from torch import nn

from mmpanoptic.models.backbones import DeepLabResNet, HRNet, Xception
from mmpanoptic.models.backbones.efficientnet import LeakyEfficientNet
from mmpanoptic.models.layers.norms import batch_norms, checkpoint_block, keep_statistics

BACKBONES = {
    "basic": (DeepLabResNet, {"depth": 18, "base_width": 8}),
    "bottleneck": (DeepLabResNet, {"depth": 50, "base_width": 8}),
    "norm_eval": (DeepLabResNet, {"depth": 18, "base_width": 8, "norm_eval": True}),
    "frozen": (DeepLabResNet, {"depth": 18, "base_width": 8, "frozen_stages": 2}),
    "hrnet": (HRNet, {"width": 8, "num_modules": (1, 1, 1), "num_blocks": 1}),
    "xception": (Xception, {"width_factor": 0.125, "num_middle_blocks": 2}),
    "efficientnet": (
        LeakyEfficientNet,
        {"arch": "b0", "width_factor": 0.25, "drop_path_rate": 0.5},
    ),
}


@pytest.mark.parametrize("momentum", [0.1, None], ids=["ema", "mean"])
@pytest.mark.parametrize("name", list(BACKBONES))
def test_checkpointing_changes_no_output_gradient_or_statistic(name, momentum):
    backbone, options = BACKBONES[name]
    torch.manual_seed(0)
    plain = backbone(**options).double()
    lean = backbone(with_cp=True, **options).double()
    lean.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    outputs = []
    for model in (plain.train(), lean.train()):
        for norm in batch_norms(model):
            norm.momentum = momentum
        torch.manual_seed(1)  # the same paths are dropped
        outputs.append(model(images))
        sum(y.square().mean() for y in outputs[-1]).backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    for a, b in zip(plain.parameters(), lean.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    kept = dict(lean.named_buffers())
    for key, value in plain.named_buffers():
        torch.testing.assert_close(value, kept[key], msg=key)
    assert all(norm.momentum == momentum for norm in batch_norms(lean))


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "norm_eval"])
def test_checkpointing_keeps_fewer_activations(name):
    """Only what blocks hand to each other is kept for the backward pass."""
    backbone, options = BACKBONES[name]
    kept = []
    for with_cp in (False, True):
        model = backbone(with_cp=with_cp, **options).train()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            model(torch.randn(2, 3, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]


def test_a_compiled_model_counts_a_batch_once_too():
    backbone, options = BACKBONES["basic"]
    model = backbone(with_cp=True, out_indices=(0,), **options).train()
    images = torch.randn(2, 3, 64, 64)
    expected = copy.deepcopy(model)
    expected(images)
    sum(y.sum() for y in torch.compile(model, backend="aot_eager")(images)).backward()
    kept = dict(model.named_buffers())
    for key, value in expected.named_buffers():
        torch.testing.assert_close(value, kept[key], msg=key)


def test_an_error_in_the_second_pass_leaves_the_norms_counting():
    norm = nn.BatchNorm2d(2)
    state = norm.num_batches_tracked
    calls = []

    def once(x):
        calls.append(norm.momentum)
        if len(calls) > 1:
            raise RuntimeError("second")
        return norm(x).square()

    out = checkpoint_block(norm, once, torch.randn(2, 2, 3, 3, requires_grad=True))
    with pytest.raises(RuntimeError, match="second"):
        out.sum().backward()
    assert calls == [0.1, 0.0]
    assert norm.momentum == 0.1
    assert norm.num_batches_tracked is state
    assert state == 1


def test_kept_statistics_are_used_and_unchanged():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = copy.deepcopy(model[1].state_dict())
    keep_statistics(model)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(model[1](x), x / (1 + model[1].eps) ** 0.5)
    assert all(torch.equal(value, before[key]) for key, value in model[1].state_dict().items())
    assert model[0].training
    assert model[2].training
