import pytest
import torch
from torch import nn

from mmpanoptic.registry import OPTIM_WRAPPERS

from .toy import assert_same, final_state, toy_config, train


def build(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build({"type": "AutocastOptimWrapper", "optimizer": optimizer, **options})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_network_computes_in_the_given_type_and_learns(dtype):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    wrapper = build(model, dtype=dtype, clip_grad={"max_norm": 1.0})
    inputs, target = torch.randn(64, 4), torch.randn(64, 1)
    losses = []
    for _ in range(30):
        with wrapper.optim_context(model):
            out = model(inputs)
        assert out.dtype == getattr(torch, dtype)
        loss = (out.float() - target).square().mean()
        losses.append(loss.item())
        wrapper.update_params(loss)
    assert losses[-1] < 0.9 * losses[0]


def test_loss_is_scaled_for_float16_only():
    assert not build(nn.Linear(1, 1)).loss_scaler.is_enabled()
    assert build(nn.Linear(1, 1)).cast_dtype == torch.bfloat16
    scaler = build(nn.Linear(1, 1), dtype="float16", loss_scale=8.0).loss_scaler
    assert scaler.get_scale() == 8.0
    scaler = build(nn.Linear(1, 1), dtype="float16", loss_scale={"init_scale": 4.0}).loss_scaler
    assert scaler.get_scale() == 4.0


def test_overflowing_float16_step_is_left_out_and_the_scale_lowered():
    model = nn.Linear(1, 1)
    wrapper = build(model, dtype="float16", loss_scale={"init_scale": 16.0})
    before = model.weight.clone()
    wrapper.update_params(model.weight.sum() * torch.inf)
    assert torch.equal(model.weight, before)
    assert wrapper.loss_scaler.get_scale() == 8.0


@pytest.mark.parametrize("options", [{"dtype": "float64"}, {"loss_scale": "static"}])
def test_wrong_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(nn.Linear(1, 1), **options)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_runs_resume_exactly(tmp_path, dtype):
    amp = {"optim_wrapper": {"type": "AutocastOptimWrapper", "dtype": dtype}}
    whole = train(toy_config(tmp_path / "one", **amp))
    train(toy_config(tmp_path / "two", steps=5, **amp))
    cfg = toy_config(tmp_path / "two", **amp)
    cfg.resume = True
    again = train(cfg)
    assert_same(final_state(again), final_state(whole))
    scalers = [run.optim_wrapper.loss_scaler.state_dict() for run in (whole, again)]
    assert scalers[0] == scalers[1]
    assert bool(scalers[0]) == (dtype == "float16")
