"""k steps, and k steps after a resume, give bitwise the state of 2k steps."""

import pytest
import torch

from mmpanoptic.checkpoints.loading import load_checkpoint

from .toy import assert_same, final_state, toy_config, train

ADAM = {"type": "AdamW", "lr": 0.01}
SGD = {"type": "SGD", "lr": 0.05, "momentum": 0.9}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def resumed(tmp_path, by_epoch, file, first_steps, **changes):
    """Train ``first_steps``, then go on from one of the checkpoints in a new runner."""
    train(toy_config(tmp_path / "two", by_epoch, steps=first_steps, **changes))
    torch.manual_seed(99)  # the second process starts with other random numbers
    torch.rand(7)
    cfg = toy_config(tmp_path / "two", by_epoch, **changes)
    cfg.resume, cfg.load_from = True, str(tmp_path / "two" / file)
    return train(cfg)


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("by_epoch", [False, True], ids=["iterations", "epochs"])
def test_resumed_run_equals_undisturbed_run(tmp_path, by_epoch, workers, optimizer):
    changes = {"workers": workers, "optimizer": optimizer}
    whole = final_state(train(toy_config(tmp_path / "one", by_epoch, **changes)))
    file, half = ("epoch_1.pth", 1) if by_epoch else ("iter_5.pth", 5)
    assert_same(final_state(resumed(tmp_path, by_epoch, file, half, **changes)), whole)


@pytest.mark.parametrize(("iteration", "workers"), [(4, 0), (7, 0), (10, 2)])
def test_resume_inside_an_epoch_is_exact(tmp_path, iteration, workers):
    every_iteration = {"default_hooks.checkpoint.by_epoch": False, "workers": workers}
    every_iteration |= {"default_hooks.checkpoint.interval": 1}
    every_iteration |= {"default_hooks.checkpoint.max_keep_ckpts": -1}
    whole = final_state(train(toy_config(tmp_path / "one", True, **every_iteration)))
    runner = resumed(tmp_path, True, f"iter_{iteration}.pth", 2, **every_iteration)
    assert_same(final_state(runner), whole)


@pytest.mark.parametrize(("by_epoch", "interval"), [(False, 3), (False, 1), (True, 1)])
def test_a_cut_window_of_accumulated_gradients_is_exact(tmp_path, by_epoch, interval):
    """Epochs of 7 iterations, windows of 4."""
    changes = {"optim_wrapper.accumulative_counts": 4}
    changes |= {"default_hooks.checkpoint.interval": interval}
    changes |= {"default_hooks.checkpoint.max_keep_ckpts": -1}
    whole = final_state(train(toy_config(tmp_path / "one", by_epoch, **changes)))
    files = sorted((tmp_path / "one").glob("*[0-9].pth"))
    cut = [path for path in files if "gradients" in load_checkpoint(path)]
    assert len(cut) == {(False, 3): 3, (False, 1): 7, (True, 1): 1}[by_epoch, interval]
    for path in files:
        cfg = toy_config(tmp_path / path.stem, by_epoch, **changes)
        cfg.resume, cfg.load_from = True, str(path)
        assert_same(final_state(train(cfg)), whole)


def test_gradients_of_other_windows_are_dropped_and_said(tmp_path):
    train(toy_config(tmp_path / "a", **{"optim_wrapper.accumulative_counts": 4}))
    cfg = toy_config(tmp_path / "b", **{"optim_wrapper.accumulative_counts": 5})
    cfg.resume, cfg.load_from = True, str(tmp_path / "a" / "iter_5.pth")
    train(cfg)
    text = "".join(path.read_text() for path in (tmp_path / "b").glob("*/*.log"))
    assert "gradients of a part of 4 iterations, but accumulative_counts is 5 now" in text


def test_worker_count_changes_nothing(tmp_path):
    states = [
        final_state(train(toy_config(tmp_path / str(workers), workers=workers)))
        for workers in (0, 1, 3)
    ]
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])


def test_validation_changes_nothing(tmp_path):
    with_val = final_state(train(toy_config(tmp_path / "a")))
    never = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}
    assert_same(final_state(train(toy_config(tmp_path / "b", **never))), with_val)


def test_best_checkpoint_of_a_validation_does_not_store_its_random_numbers(tmp_path):
    """mmengine writes the periodic checkpoint once more from inside the validation."""
    best = {
        "default_hooks.checkpoint.save_best": "toy/PQ",
        "default_hooks.checkpoint.interval": 3,
    }
    whole = final_state(train(toy_config(tmp_path / "one", **best)))
    assert list((tmp_path / "one").glob("best_toy_PQ_iter_*.pth"))
    assert_same(final_state(resumed(tmp_path, False, "iter_3.pth", 3, **best)), whole)


def test_iteration_loop_resumes_without_reading_what_lies_before(tmp_path):
    runner = resumed(tmp_path, False, "iter_5.pth", 5)
    assert len(runner.train_dataloader.dataset.drawn) == 5 * 2


def test_grouped_batches_resume_without_reading_what_lies_before(tmp_path):
    changes = {"train_dataloader": {"batch_sampler": {"type": "AspectRatioBatchSampler"}}}
    whole = final_state(train(toy_config(tmp_path / "one", **changes)))
    runner = resumed(tmp_path, False, "iter_5.pth", 5, **changes)
    assert_same(final_state(runner), whole)
    assert len(runner.train_dataloader.dataset.drawn) == 5 * 2


@pytest.mark.parametrize("by_epoch", [False, True])
def test_foreign_samplers_resume_exactly_by_reading_again(tmp_path, by_epoch):
    sampler = {"type": "DefaultSampler" if by_epoch else "InfiniteSampler", "shuffle": True}
    changes = {
        "train_dataloader": {"sampler": sampler},
        "default_hooks.checkpoint.by_epoch": False,
        "default_hooks.checkpoint.interval": 4,
    }
    whole = final_state(train(toy_config(tmp_path / "one", by_epoch, **changes)))
    half = 1 if by_epoch else 4
    assert_same(final_state(resumed(tmp_path, by_epoch, "iter_4.pth", half, **changes)), whole)


def test_finite_sampler_in_an_iteration_loop_resumes_exactly(tmp_path):
    changes = {"train_dataloader": {"sampler": {"type": "SeededSampler"}}, "steps": 18}
    changes |= {"default_hooks.checkpoint.interval": 9}
    whole = final_state(train(toy_config(tmp_path / "one", **changes)))
    changes.pop("steps")
    train(toy_config(tmp_path / "two", steps=9, **changes))
    cfg = toy_config(tmp_path / "two", steps=18, **changes)
    cfg.resume = True
    runner = train(cfg)
    assert len(runner.train_dataloader.dataset.drawn) <= 9 * 2
    assert_same(final_state(runner), whole)


def test_run_without_a_fixed_seed_goes_on_with_the_seed_it_drew(tmp_path):
    free = {"randomness": {"seed": None}, "steps": 5}
    first = train(toy_config(tmp_path / "two", **free))
    cfg = toy_config(tmp_path / "two", randomness={"seed": None})
    cfg.resume = True
    second = train(cfg)
    assert second.seed == first.seed
    same_seed = toy_config(tmp_path / "one", randomness={"seed": first.seed})
    assert_same(final_state(second), final_state(train(same_seed)))


def test_other_batch_size_neither_repeats_nor_skips_samples(tmp_path):
    runner = resumed(tmp_path, False, "iter_5.pth", 5)
    train(toy_config(tmp_path / "three", steps=5))
    cfg = toy_config(tmp_path / "three", steps=8, train_dataloader={"batch_size": 3})
    cfg.resume = True
    drawn = train(cfg).train_dataloader.dataset.drawn
    assert drawn[:9] == runner.train_dataloader.dataset.drawn[:9]


def test_checkpoint_says_what_the_run_was(tmp_path):
    train(toy_config(tmp_path))
    content = load_checkpoint(tmp_path / "iter_10.pth")
    meta = content["meta"]
    assert (meta["iter"], meta["epoch"], meta["seed"]) == (10, 0, 3)
    assert meta["dataset_meta"]["classes"] == ("a", "b")
    assert "ToyModel" in meta["cfg"]
    assert {"mmpanoptic_version", "mmengine_version", "torch_version"} <= meta.keys()
    assert content["data_position"] == {"samples": 20, "world_size": 1}
    assert {"optimizer", "param_schedulers", "ema_state_dict", "message_hub"} <= content.keys()
    assert len(content["random_states"]) == 1


PLATEAU = {
    "type": "ReduceOnPlateauLR",
    "monitor": "toy/PQ",
    "rule": "greater",
    "patience": 0,
    "threshold": 100.0,
    "threshold_rule": "abs",
    "factor": 0.5,
}
PATIENCE = {"type": "PatienceStopHook", "monitor": "toy/PQ", "patience": 2, "min_delta": 100.0}


@pytest.mark.parametrize("save_best", [None, "toy/PQ"])
@pytest.mark.parametrize("stop_at", [3, 4, 6, 8])
def test_a_schedule_that_listens_to_validation_resumes_exactly(tmp_path, stop_at, save_best):
    """Checkpoints at 3 and 6 are written before the validation that is due there."""
    changes = {
        "param_scheduler": [PLATEAU],
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.checkpoint.max_keep_ckpts": -1,
        "default_hooks.checkpoint.save_best": save_best,
    }
    runner = train(toy_config(tmp_path / "one", **changes))
    assert runner.optim_wrapper.get_lr()["lr"][0] < 0.05  # the rate did fall
    whole = final_state(runner)
    cfg = toy_config(tmp_path / "two", **changes)
    cfg.resume, cfg.load_from = True, str(tmp_path / "one" / f"iter_{stop_at}.pth")
    assert_same(final_state(train(cfg)), whole)


@pytest.mark.parametrize("stop_at", [3, 5, 6, 8])
def test_a_run_that_ends_for_want_of_improvement_ends_there_after_a_resume(tmp_path, stop_at):
    changes = {
        "custom_hooks": [{"type": "EMAHook", "priority": "LOW"}, PATIENCE],
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.checkpoint.max_keep_ckpts": -1,
    }
    runner = train(toy_config(tmp_path / "one", steps=20, **changes))
    whole = final_state(runner)
    assert runner.iter == 9  # the first value counts, two more do not beat it by 100
    changes["steps"] = 20
    cfg = toy_config(tmp_path / "two", **changes)
    cfg.resume, cfg.load_from = True, str(tmp_path / "one" / f"iter_{stop_at}.pth")
    again = train(cfg)
    assert again.iter == 9
    assert_same(final_state(again), whole)


def test_a_metric_that_is_not_there_is_an_error(tmp_path):
    hook = {"type": "PatienceStopHook", "monitor": "coco_panoptic/PQ"}
    with pytest.raises(ValueError, match="coco_panoptic/PQ"):
        train(toy_config(tmp_path, custom_hooks=[hook]))
