"""A run that is killed at any moment goes on exactly, and leaves no process."""

import random
import time

import pytest

from .runs import (
    assert_equal_ends,
    checkpoints,
    finish,
    is_whole,
    newest_time,
    train,
    write_config,
)


def kill_and_look(run, work_dir):
    """Kill the main process alone, as the system does for want of memory."""
    run.process.kill()
    assert run.wait_until_gone(10) == []
    assert all(map(is_whole, checkpoints(work_dir)))  # whatever has a name is whole


def test_a_run_killed_twice_goes_on_and_ends_with_the_same_weights(slow_run, tmp_path):
    config, expected = slow_run
    work_dir, resume = tmp_path / "killed run", ()
    for moment in (0.0, 0.2):
        with train(config, work_dir, *resume) as run:
            before = newest_time(work_dir)
            assert run.wait_for(lambda before=before: newest_time(work_dir) > before)
            time.sleep(moment)
            kill_and_look(run, work_dir)
        resume = ("--resume",)
    finish(config, work_dir, "--resume")
    assert_equal_ends(work_dir, expected)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_ten_times_at_random_moments_ends_with_the_same_weights(
    slow_run, tmp_path, seed
):
    config, expected = slow_run
    draw, work_dir, kills = random.Random(seed), tmp_path / "run", 0
    while kills < 10:
        with train(config, work_dir, "--resume") as run:
            # Most in the midst of training, some while everything is being built.
            if draw.random() < 0.8:
                before = newest_time(work_dir)
                run.wait_for(lambda before=before: newest_time(work_dir) > before)
                time.sleep(draw.uniform(0, 0.35))
            else:
                time.sleep(draw.uniform(0, 6))
            if run.process.poll() is not None:  # it has reached the end
                break
            kill_and_look(run, work_dir)
            kills += 1
    assert kills >= 8
    finish(config, work_dir, "--resume")
    assert_equal_ends(work_dir, expected)


@pytest.mark.faults
def test_validations_cut_by_kills_are_made_up(tmp_path):
    """Each of four validations is killed once; the run has all of them in the end."""
    config = write_config(tmp_path / "c", delay=0.0, **{"train_cfg.val_interval": 10})
    slow = ("--cfg-options", "val_dataloader.dataset.delay=0.3", "log_level=INFO")
    whole = finish(config, tmp_path / "whole", *slow)
    work_dir, output, killed = tmp_path / "run", "", set()
    for _ in range(4):
        with train(config, work_dir, "--resume", *slow) as run:
            due = [number for number in (10, 20, 30, 40) if number not in killed]
            run.wait_for(lambda due=due: (work_dir / f"iter_{due[0]}.pth").exists())
            time.sleep(0.5)
            kill_and_look(run, work_dir)
            killed.add(due[0])
            output += run.process.stdout.read()
    output += finish(config, work_dir, "--resume", *slow)
    assert output.count("toy/PQ:") == whole.count("toy/PQ:") == 4
