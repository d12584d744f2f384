"""Ctrl-C and SIGTERM save a checkpoint, leave no process, and the run goes on exactly."""

import os
import signal
import time
from pathlib import Path

import pytest

from .runs import STEPS, assert_equal_ends, checkpoints, finish, newest_time, train

INTERVAL = "default_hooks.checkpoint.interval=15"
LONG = pytest.mark.faults


def stop(run, number, whom):
    if whom == "main":
        run.process.send_signal(number)
    else:  # the terminal's Ctrl-C, or a job's end, reach the workers as well
        os.killpg(run.process.pid, number)


@pytest.mark.parametrize(
    ("number", "whom", "workers"),
    [
        (signal.SIGTERM, "main", 2),
        (signal.SIGINT, "main and workers", 2),
        pytest.param(signal.SIGINT, "main", 2, marks=LONG),
        pytest.param(signal.SIGTERM, "main and workers", 2, marks=LONG),
        pytest.param(signal.SIGINT, "main", 0, marks=LONG),
        pytest.param(signal.SIGTERM, "main", 0, marks=LONG),
    ],
)
def test_a_stopped_run_saves_and_goes_on_exactly(slow_run, tmp_path, number, whom, workers):
    config, expected = slow_run
    work_dir = tmp_path / "run"
    options = ("--cfg-options", INTERVAL, f"train_dataloader.num_workers={workers}")
    with train(config, work_dir, *options) as run:
        assert run.wait_for(lambda: newest_time(work_dir) > 0)
        stop(run, number, whom)
        status, output = run.end()
        assert status == 128 + number, output
        assert "is saved; go on with --resume" in output
        assert "Traceback" not in output
        assert run.wait_until_gone() == []
    pointed_to = Path((work_dir / "last_checkpoint").read_text())
    assert pointed_to.name.startswith("interrupted_iter_")
    finish(config, work_dir, "--resume", *options)
    assert_equal_ends(work_dir, expected)
    assert not pointed_to.exists()  # two regular checkpoints have taken its place


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_a_validation_saves_and_the_validation_is_repeated(slow_run, tmp_path, number):
    config, expected = slow_run
    work_dir = tmp_path / "run"
    slow = ("--cfg-options", "val_dataloader.dataset.delay=0.5", "log_level=INFO")
    quick = ("--cfg-options", "log_level=INFO")
    with train(config, work_dir, *slow) as run:
        # Checkpoints come every second iteration, validations every third.
        assert run.wait_for(lambda: (work_dir / "iter_2.pth").exists())
        time.sleep(1)
        run.process.send_signal(number)
        status, output = run.end()
        assert status == 128 + number, output
        assert run.wait_until_gone() == []
    output += finish(config, work_dir, "--resume", *quick)
    assert output.count("toy/PQ:") == STEPS // 3 + (STEPS % 3 > 0)
    assert_equal_ends(work_dir, expected)


@pytest.mark.faults
def test_a_second_ctrl_c_ends_at_once_and_what_was_saved_stays_good(slow_run, tmp_path):
    config, expected = slow_run
    work_dir = tmp_path / "run"
    with train(config, work_dir, "--cfg-options", "train_dataloader.dataset.delay=2") as run:
        assert run.wait_for(lambda: newest_time(work_dir) > 0)
        for _ in range(2):
            run.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        begin = time.monotonic()
        status, output = run.end()
        assert status == 130, output
        assert time.monotonic() - begin < 30
        assert run.wait_until_gone() == []
    assert checkpoints(work_dir)
    finish(config, work_dir, "--resume")
    assert_equal_ends(work_dir, expected)
