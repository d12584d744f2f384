import pytest
import torch

from mmpanoptic.nas.path_hook import SupernetPathHook
from mmpanoptic.nas.sampling import FairPaths
from mmpanoptic.nas.space import SearchSpace
from mmpanoptic.registry import HOOKS
from tests.engine.toy import assert_same, train
from tests.nas.toy import SPACE, WINDOW, supernet_config


class Recorder(SupernetPathHook):
    """Writes down the path of every iteration and whether the optimizer has stepped after it."""

    def __init__(self, space):
        super().__init__(space)
        self.paths, self.steps = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = runner.model
        blocks = [*model.backbone.blocks, *model.head]
        self.paths.append(tuple(block.choice for block in blocks))
        self.steps.append(runner.optim_wrapper.should_update())


HOOKS.register_module(name="PathRecorder", module=Recorder)


def run(cfg):
    cfg.custom_hooks = [{"type": "PathRecorder", "space": SPACE}]
    runner = train(cfg)
    hook = next(hook for hook in runner.hooks if isinstance(hook, Recorder))
    return runner, hook


def weights(runner):
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def test_a_window_of_paths_is_one_step(tmp_path):
    runner, hook = run(supernet_config(tmp_path, steps=2 * WINDOW))
    expected = FairPaths(SearchSpace(SPACE), runner.seed)
    assert hook.paths == [expected(i) for i in range(2 * WINDOW)]
    assert hook.steps == [(i + 1) % WINDOW == 0 for i in range(2 * WINDOW)]


def test_a_resumed_run_takes_the_same_paths_and_ends_with_the_same_weights(tmp_path):
    whole, _ = run(supernet_config(tmp_path / "whole", steps=2 * WINDOW))
    run(supernet_config(tmp_path / "cut", steps=WINDOW))
    cfg = supernet_config(tmp_path / "cut", steps=2 * WINDOW)
    cfg.resume = True
    resumed, hook = run(cfg)
    assert len(hook.paths) == WINDOW
    assert_same(weights(whole), weights(resumed))


def test_a_checkpoint_inside_a_window_is_refused(tmp_path):
    cfg = supernet_config(tmp_path, steps=2 * WINDOW)
    cfg.optim_wrapper.accumulative_counts = 3
    cfg.custom_hooks = []
    cfg.default_hooks.checkpoint.interval = 3
    cfg.custom_hooks = [{"type": "SupernetPathHook", "space": SPACE, "sampler": "uniform"}]
    cfg.optim_wrapper.pop("constructor")
    cfg.train_cfg.max_iters = 3
    train(cfg)
    later = supernet_config(tmp_path, steps=2 * WINDOW)
    later.optim_wrapper.pop("constructor")
    later.resume = True
    with pytest.raises(ValueError, match="inside a window of 6 iterations"):
        train(later)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim_wrapper.accumulative_counts": 12}, "accumulative_counts=6"),
        ({"default_hooks.checkpoint.interval": 4}, "a multiple of 6"),
        ({"model.head_choices": [0, 0]}, "no supernet of this search space"),
    ],
)
def test_what_does_not_fit_the_windows_is_an_error(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(supernet_config(tmp_path, **changes))


def test_uniform_paths_step_every_iteration(tmp_path):
    cfg = supernet_config(tmp_path, steps=3)
    cfg.optim_wrapper.accumulative_counts = 1
    cfg.custom_hooks = [{"type": "SupernetPathHook", "space": SPACE, "sampler": "uniform"}]
    runner = train(cfg)
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())


@pytest.mark.parametrize(
    "options", [{"sampler": "best"}, {"sampler": "uniform", "strict_legacy_windows": True}]
)
def test_wrong_options_are_an_error(options):
    with pytest.raises(ValueError, match="sampler"):
        SupernetPathHook(SPACE, **options)
