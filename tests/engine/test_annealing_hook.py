"""EoMT's share of masked queries follows the iteration."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmpanoptic.engine import MaskAnnealingHook
from mmpanoptic.registry import ConfigError


class Annealed(nn.Module):
    anneals = True

    def __init__(self, blocks=4):
        super().__init__()
        self.register_buffer("attn_mask_probs", torch.ones(blocks))
        self.noted = []

    def note_probabilities(self):
        self.noted.append(self.attn_mask_probs.tolist())


def runner_at(iteration, model, max_iters=60):
    return SimpleNamespace(model=model, iter=iteration, max_iters=max_iters)


def test_shares_are_those_of_the_authors_for_four_blocks():
    hook = MaskAnnealingHook()
    assert hook.shares(1 / 6, 4) == [1, 1, 1, 1]
    assert hook.shares(1 / 4, 4) == pytest.approx([0.5**0.9, 1, 1, 1])
    assert hook.shares(1 / 2, 4) == pytest.approx([0, 0, 1, 1])
    assert hook.shares(5 / 6, 4) == pytest.approx([0, 0, 0, 0])


def test_the_power_bends_the_fall():
    assert MaskAnnealingHook(power=2).shares(1 / 4, 4) == pytest.approx([0.25, 1, 1, 1])


def test_a_resumed_training_has_the_shares_of_its_iteration():
    whole, resumed = Annealed(), Annealed()
    hook = MaskAnnealingHook()
    hook.before_train(runner_at(0, whole))
    assert whole.attn_mask_probs.tolist() == [1, 1, 1, 1]
    for iteration in range(25):
        hook.after_train_iter(runner_at(iteration, whole), iteration)
    MaskAnnealingHook().before_train(runner_at(25, resumed))
    assert torch.equal(whole.attn_mask_probs, resumed.attn_mask_probs)
    assert 0 < whole.attn_mask_probs[1] < 1
    assert whole.noted[-1] == whole.attn_mask_probs.tolist()


def test_wrong_settings_and_models_are_refused():
    with pytest.raises(ConfigError, match="each start smaller than its end"):
        MaskAnnealingHook(start=(0.5,), end=(0.2,))
    with pytest.raises(ConfigError, match="start has 2 numbers"):
        MaskAnnealingHook((0, 0.5), (0.5, 1)).before_train(runner_at(0, Annealed()))
    with pytest.raises(ConfigError, match="no masked attention to anneal"):
        MaskAnnealingHook().before_train(runner_at(0, nn.Linear(1, 1)))
