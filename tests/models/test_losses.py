import pytest
import torch
from torch.nn import functional

from mmpanoptic.models.losses import HardPixelMiningLoss, WeightedL1Loss, WeightedMSELoss


def make_inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    target = torch.randint(0, 5, (2, 24, 28), generator=generator)
    target[0, :5] = 255
    weight = torch.randint(1, 4, (2, 24, 28), generator=generator).float()
    return logits, target, weight


@pytest.mark.parametrize("top_k", [0.2, 1.0])
def test_equals_the_sorted_pixel_losses(top_k):
    logits, target, weight = make_inputs()
    full = functional.interpolate(logits, scale_factor=4, mode="bilinear")
    losses = functional.cross_entropy(full, target, ignore_index=255, reduction="none") * weight
    losses = losses.flatten().sort(descending=True).values
    expected = losses[: int(top_k * losses.numel())].mean() * 3
    actual = HardPixelMiningLoss(top_k, loss_weight=3)(logits, target, weight, 4)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("top_k", [0.2, 1.0])
def test_memory_lean_gives_the_same_gradients(top_k):
    logits, target, weight = make_inputs()
    gradients = []
    for lean in (False, True):
        x = logits.clone().requires_grad_()
        HardPixelMiningLoss(top_k, memory_lean=lean)(x, target, weight, 4).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_memory_lean_keeps_no_full_size_tensor_for_the_backward_pass():
    logits, target, weight = make_inputs()
    sizes = {}
    for lean in (False, True):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t
        ):
            HardPixelMiningLoss(1.0, memory_lean=lean)(
                logits.clone().requires_grad_(), target, weight, 4
            )
        sizes[lean] = max(saved)
    assert sizes[False] >= 2 * 5 * 24 * 28
    assert sizes[True] <= 2 * 24 * 28


def test_a_single_pixel_still_counts():
    logits = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    loss = HardPixelMiningLoss(0.2)(logits, torch.zeros(1, 1, 1, dtype=torch.int64))
    torch.testing.assert_close(loss, functional.softplus(torch.tensor(-1.0)))


@pytest.mark.parametrize("top_k", [0, -0.1, 1.5])
def test_share_outside_0_1_is_refused(top_k):
    with pytest.raises(ValueError, match="top_k"):
        HardPixelMiningLoss(top_k)


@pytest.mark.parametrize("loss_type", [WeightedMSELoss, WeightedL1Loss])
def test_no_weight_gives_zero_with_zero_gradient(loss_type):
    pred = torch.randn(2, 2, 4, 5, requires_grad=True)
    loss = loss_type(200.0)(pred, torch.randn(2, 2, 4, 5), torch.zeros(2, 1, 4, 5))
    loss.backward()
    assert loss.item() == 0
    assert pred.grad.abs().max() == 0


def test_weights_count_once_per_pixel():
    pred, target = torch.zeros(1, 2, 1, 2), torch.tensor([3.0, 1.0, 4.0, 9.0]).view(1, 2, 1, 2)
    weight = torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    assert WeightedL1Loss(0.5)(pred, target, weight).item() == 0.5 * (3 + 4)
    assert WeightedMSELoss()(pred, target, weight).item() == 9 + 16


def test_losses_are_float32_under_autocast():
    logits, target, weight = make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        half = logits.bfloat16()
        mining = HardPixelMiningLoss()(half, target, weight, 4)
        mse = WeightedMSELoss()(half, torch.zeros(2, 5, 6, 7), torch.ones(2, 1, 6, 7))
    assert mining.dtype == mse.dtype == torch.float32
    torch.testing.assert_close(mining, HardPixelMiningLoss()(half.float(), target, weight, 4))
