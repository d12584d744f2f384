"""An epoch of a sampler without end is refused."""

import pytest
from torch.utils.data import Sampler

from mmpanoptic.registry import DATA_SAMPLERS, ConfigError

from .toy import toy_config, train


@pytest.mark.parametrize("kind", ["InfiniteSeededSampler", "mmengine.InfiniteSampler"])
@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_loops_over_epochs_refuse_endless_samplers(tmp_path, kind, loader):
    sampler = {f"{loader}.sampler": {"type": kind, "_delete_": True}}
    with pytest.raises(ConfigError, match=r"never ends.*SeededSampler.*max_iters"):
        train(toy_config(tmp_path, by_epoch=True, **sampler))
    assert not list(tmp_path.glob("*.pth"))


@DATA_SAMPLERS.register_module()
class OwnEndlessSampler(Sampler):
    def __init__(self, dataset, seed=None):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __iter__(self):
        while True:
            yield 0


def test_an_unknown_endless_sampler_is_stopped_after_the_epoch(tmp_path):
    sampler = {"train_dataloader.sampler": {"type": "OwnEndlessSampler", "_delete_": True}}
    with pytest.raises(ConfigError, match="OwnEndlessSampler never ends"):
        train(toy_config(tmp_path, by_epoch=True, **sampler))


def test_iterations_take_endless_samplers_and_epochs_finite_ones(tmp_path):
    assert train(toy_config(tmp_path / "a", steps=2)).iter == 2
    assert train(toy_config(tmp_path / "b", by_epoch=True, steps=1)).epoch == 1
