"""Two processes, of which one is lost; and two runs that want one folder."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from mmpanoptic.checkpoints.loading import load_checkpoint

from .runs import ROOT, Run, assert_equal_ends, checkpoints, finish, newest_time, train


def launch(config, work_dir, *options):
    script = ROOT / "tools" / "dist_train.sh"
    return Run([script, config, "2", "--work-dir", work_dir, *options])


def rank_process(run, rank):
    """Find the process of a rank; its data workers have it in their environment, too."""
    found = {}
    for pid in run.living():
        place = Path("/proc", str(pid))
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            command = (place / "cmdline").read_bytes()
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if f"RANK={rank}".encode() in environment and b"train.py" in command:
            found[pid] = parent
    (main,) = (pid for pid, parent in found.items() if parent not in found)
    return main


def started(run, work_dir):
    assert run.wait_for(lambda: newest_time(work_dir) > 0), run.process.stdout.read()


def assert_names(output, rank):
    """One line names the rank; nothing of gloo's or torch's own is shown."""
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert lines, output
    assert any(re.search(rf"\brank {rank}\b", line) for line in lines), output
    assert "Traceback" not in output
    assert "gloo" not in output


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.faults)])
def test_a_killed_rank_is_named_and_the_other_ends(slow_run, tmp_path, rank):
    config, _ = slow_run
    work_dir = tmp_path / "run"
    with launch(config, work_dir) as run:
        started(run, work_dir)
        os.kill(rank_process(run, rank), signal.SIGKILL)
        status, output = run.end(60)
        assert status == 1, output
        assert_names(output, rank)
        assert run.wait_until_gone() == []
    # What is there is whole: the run goes on.
    with launch(config, work_dir, "--resume") as run:
        status, output = run.end()
    assert status == 0, output
    assert len(load_checkpoint(checkpoints(work_dir)[-1])["random_states"]) == 2


@pytest.mark.faults
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_stands_still_is_named_within_the_configured_time(slow_run, tmp_path, rank):
    config, _ = slow_run
    work_dir = tmp_path / "run"
    with launch(config, work_dir, "--cfg-options", "env_cfg.dist_cfg.timeout=8") as run:
        started(run, work_dir)
        still = rank_process(run, rank)
        os.kill(still, signal.SIGSTOP)
        begin = time.monotonic()
        run.wait_for(lambda: set(run.living()) == {still}, 60)
        took = time.monotonic() - begin
        if run.process.poll() is None:
            os.kill(still, signal.SIGKILL)
        status, output = run.end(60)
        assert status == 1, output
        assert_names(output, rank)
        assert 6 < took < 50, output


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_all_saves_once_and_leaves_no_process(slow_run, tmp_path, number):
    config, _ = slow_run
    work_dir = tmp_path / "run"
    with launch(config, work_dir) as run:
        started(run, work_dir)
        os.killpg(run.process.pid, number)
        status, output = run.end(100)
        assert status != 0, output
        assert run.wait_until_gone() == []
        assert "Traceback" not in output
    assert (work_dir / "last_checkpoint").read_text().rpartition("/")[2].startswith("interrupted")


def test_a_second_training_in_a_folder_is_refused_and_the_first_goes_on(slow_run, tmp_path):
    config, expected = slow_run
    work_dir = tmp_path / "run"
    slow = ("--cfg-options", "train_dataloader.dataset.delay=0.7")
    with train(config, work_dir, *slow) as first:
        assert first.wait_for(lambda: newest_time(work_dir) > 0)
        with train(config, work_dir) as second:
            status, output = second.end(100)
        assert status == 1, output
        assert f"is in use by process {first.process.pid}" in output
        assert "Traceback" not in output
        status, output = first.end()
        assert status == 0, output
    assert_equal_ends(work_dir, expected)


@pytest.mark.faults
def test_a_folder_is_free_again_after_a_kill(slow_run, tmp_path):
    config, expected = slow_run
    work_dir = tmp_path / "run"
    with train(config, work_dir) as run:
        assert run.wait_for(lambda: newest_time(work_dir) > 0)
        run.process.kill()
        finish(config, work_dir, "--resume")
    assert_equal_ends(work_dir, expected)
