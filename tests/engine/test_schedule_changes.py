"""The learning rate is the config's: with a warm-up of no length, and after a resume."""

import pytest
import torch

from mmpanoptic.checkpoints.loading import load_checkpoint

from .toy import assert_same, final_state, toy_config, train

NEVER = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def rates_of(work_dir, schedulers, steps=10, resume=None, by_epoch=False, **changes):
    """Learning rate in each iteration of a run."""
    hook = {"by_epoch": False, "interval": 1, "max_keep_ckpts": -1}
    every = {f"default_hooks.checkpoint.{name}": value for name, value in hook.items()}
    cfg = toy_config(work_dir, by_epoch, steps=steps, **NEVER, **every, **changes)
    cfg.param_scheduler = schedulers
    if resume:
        cfg.resume, cfg.load_from = True, str(resume)
    cfg.custom_hooks.append({"type": "RateRecorder"})
    runner = train(cfg)
    return next(hook.rates for hook in runner.hooks if hasattr(hook, "rates")), runner


def poly(end, begin=0):
    return {"type": "PolyLR", "power": 0.9, "by_epoch": False, "begin": begin, "end": end}


def warm(end, **more):
    return {"type": "LinearLR", "start_factor": 1e-3, "by_epoch": False, "end": end, **more}


@pytest.mark.parametrize("end", [-1, 0, 1])
@pytest.mark.parametrize("kind", ["LinearLR", "ConstantLR"])
def test_a_warm_up_of_no_length_is_none(tmp_path, end, kind):
    empty = warm(end) if kind == "LinearLR" else {"type": kind, "factor": 0.1, "end": end}
    given, _ = rates_of(tmp_path / "a", [{**empty, "by_epoch": False}, poly(20)], 3)
    plain, _ = rates_of(tmp_path / "b", [poly(20)], 3)
    assert given == plain
    alone, _ = rates_of(tmp_path / "c", [warm(end)], 2)
    assert alone == [0.05, 0.05]


def test_a_short_warm_up_ends(tmp_path):
    given, _ = rates_of(tmp_path, [warm(2)], 3)
    assert given == pytest.approx([5e-5, 0.05, 0.05])


CHANGES = {
    "longer": ([warm(4), poly(6)], [warm(4), poly(21)]),
    "other warm-up": ([warm(9), poly(21)], [warm(3), poly(21)]),
    "without warm-up": ([warm(4), poly(21)], [poly(21)]),
    "with warm-up": ([poly(21)], [warm(8), poly(21)]),
    "steps": ([poly(21)], [{"type": "MultiStepLR", "milestones": [3, 7], "by_epoch": False}]),
    "none": ([poly(6)], []),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_resumed_run_has_the_rates_of_its_own_schedule(tmp_path, name):
    first, second = CHANGES[name]
    rates_of(tmp_path / "run", first, 5)
    rest, _ = rates_of(tmp_path / "run", second, resume=tmp_path / "run" / "iter_5.pth")
    whole, _ = rates_of(tmp_path / "whole", second)
    assert rest == pytest.approx(whole[5:], rel=1e-12)
    text = "".join(path.read_text() for path in (tmp_path / "run").glob("*/*.log"))
    assert "the schedule is another than the checkpoint's" in text


def test_epochs_count_in_their_order(tmp_path):
    def schedule(end):
        steps = {"type": "StepLR", "step_size": 1, "gamma": 0.5, "by_epoch": True}
        cosine = {"type": "CosineAnnealingLR", "eta_min": 0.01, "by_epoch": False, "end": end}
        return [steps, cosine]

    rates_of(tmp_path / "run", schedule(9), 2, by_epoch=True)
    file = tmp_path / "run" / "iter_9.pth"
    rest, _ = rates_of(tmp_path / "run", schedule(21), 3, file, by_epoch=True)
    whole, _ = rates_of(tmp_path / "whole", schedule(21), 3, by_epoch=True)
    assert rest == pytest.approx(whole[9:], rel=1e-12)


def test_other_hyperparameters_are_the_configs_too(tmp_path):
    rates_of(tmp_path / "run", [poly(20)], 5)
    optimizer = {"type": "SGD", "lr": 0.02, "momentum": 0.7, "weight_decay": 0.1}
    file = tmp_path / "run" / "iter_5.pth"
    rest, runner = rates_of(tmp_path / "run", [poly(20)], 6, file, optimizer=optimizer)
    group = runner.optim_wrapper.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["initial_lr"]) == (0.7, 0.1, 0.02)
    whole, _ = rates_of(tmp_path / "whole", [poly(20)], 6, optimizer=optimizer)
    assert rest == pytest.approx(whole[5:], rel=1e-12)


def test_without_a_change_nothing_is_touched(tmp_path):
    schedule = [warm(4), poly(21)]
    rates_of(tmp_path / "run", schedule, 5)
    _, runner = rates_of(tmp_path / "run", schedule, resume=tmp_path / "run" / "iter_5.pth")
    _, whole = rates_of(tmp_path / "whole", schedule)
    assert_same(final_state(runner), final_state(whole))
    text = "".join(path.read_text() for path in (tmp_path / "run").glob("*/*.log"))
    assert "the schedule is another" not in text


def test_a_checkpoint_without_schedulers_goes_on_with_the_configs(tmp_path):
    rates_of(tmp_path / "run", [poly(20)], 5)
    path = tmp_path / "run" / "iter_5.pth"
    content = load_checkpoint(path)
    del content["param_schedulers"]
    torch.save(content, tmp_path / "bare.pth")
    rest, _ = rates_of(tmp_path / "run", [poly(20)], resume=tmp_path / "bare.pth")
    whole, _ = rates_of(tmp_path / "whole", [poly(20)])
    assert rest == pytest.approx(whole[5:], rel=1e-12)


def test_a_schedule_that_depends_on_validation_goes_on(tmp_path):
    plateau = {"type": "ReduceOnPlateauLR", "monitor": "toy/PQ", "by_epoch": True}
    first, second = ({**plateau, "patience": number} for number in (2, 3))
    cfg = toy_config(tmp_path / "run", by_epoch=True, steps=1)
    cfg.param_scheduler = [first]
    train(cfg)
    cfg = toy_config(tmp_path / "run", by_epoch=True, steps=2)
    cfg.param_scheduler, cfg.resume = [second], True
    runner = train(cfg)
    assert runner.param_schedulers[0].patience == 2
    text = "".join(path.read_text() for path in (tmp_path / "run").glob("*/*.log"))
    assert "is not followed: it depends on validations" in text
