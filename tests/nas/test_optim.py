import pytest
import torch
from mmengine.optim import OptimWrapper

from mmpanoptic.models.layers import set_path
from mmpanoptic.nas.optim import SupernetOptimWrapperConstructor, uses_per_step
from mmpanoptic.nas.sampling import FairPaths
from mmpanoptic.nas.space import SearchSpace
from mmpanoptic.registry import MODELS
from tests.nas.toy import MODEL, SPACE, WINDOW


def constructor(passes=WINDOW, **paramwise):
    cfg = {
        "optimizer": {"type": "SGD", "lr": 0.06, "momentum": 0.9, "weight_decay": 0.01},
        "accumulative_counts": passes,
    }
    return SupernetOptimWrapperConstructor(cfg, paramwise)


def test_uses_are_counted_per_choice():
    uses = uses_per_step(MODELS.build(MODEL), WINDOW)
    assert uses["backbone.stem.weight"] == 6
    assert uses["backbone.blocks.0.1.0.weight"] == 3
    assert uses["head.1.2.weight"] == 2
    assert set(uses_per_step(MODELS.build(MODEL), 1).values()) == {1}


def test_passes_that_cannot_be_dealt_out_are_an_error():
    with pytest.raises(ValueError, match=r"accumulative_counts=4 .* \[3\] choices"):
        uses_per_step(MODELS.build(MODEL), 4)


def test_legacy_biases_ignore_their_uses():
    model = MODELS.build(MODEL)
    scaled = constructor().summed_settings(model)
    legacy = constructor(legacy_bias_lr=True).summed_settings(model)
    assert scaled["head.0.0.bias"] == pytest.approx((0.06, 0))
    assert legacy["head.0.0.bias"] == pytest.approx((0.12, 0))
    assert scaled["head.0.0.weight"] == legacy["head.0.0.weight"] == pytest.approx((0.03, 0.01))


def test_unknown_options_are_an_error():
    with pytest.raises(TypeError, match="biass"):
        constructor(biass=1)


def losses(model, space, step, data):
    sampler = FairPaths(space, 0)
    for i in range(WINDOW):
        set_path(model, space.path(sampler(step * WINDOW + i)))
        yield model(data[i]).square().mean()


def test_updates_equal_those_of_summed_gradients():
    """The published form: sum 12 gradients, step with the learning rates of summed_settings."""
    space = SearchSpace(SPACE)
    torch.manual_seed(0)
    ours, theirs = MODELS.build(MODEL).double(), MODELS.build(MODEL).double()
    theirs.load_state_dict(ours.state_dict())
    data = torch.randn(WINDOW, 2, 3, 8, 8, dtype=torch.float64)
    wrapper = constructor()(ours)
    wrapper.initialize_count_status(ours, 0, 3 * WINDOW)
    settings = constructor().summed_settings(theirs)
    plain = torch.optim.SGD(
        [
            {"params": [p], "lr": settings[n][0], "weight_decay": settings[n][1]}
            for n, p in theirs.named_parameters()
        ],
        momentum=0.9,
    )
    start = {n: p.clone() for n, p in ours.named_parameters()}
    for step in range(3):
        for loss in losses(ours, space, step, data):
            wrapper.update_params(loss)
        plain.zero_grad()
        for loss in losses(theirs, space, step, data):
            loss.backward()
        plain.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-13)
    weights = [(n, p) for n, p in ours.named_parameters() if "weight" in n]
    assert not any(torch.equal(start[name], value) for name, value in weights)


def test_frozen_weights_are_left_out():
    model = MODELS.build(MODEL)
    model.backbone.stem.requires_grad_(False)
    wrapper = constructor()(model)
    assert isinstance(wrapper, OptimWrapper)
    members = {id(p) for group in wrapper.optimizer.param_groups for p in group["params"]}
    assert id(model.backbone.stem.weight) not in members
