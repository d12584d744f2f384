"""A disk that is full, or takes no writes: one line with the path, and nothing is lost."""

import errno
import os
import resource
import subprocess

import pytest
from mmengine.hooks import LoggerHook

from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.utils.files import WriteError
from tests.engine.toy import toy_config
from tests.engine.toy import train as engine_train

from .runs import assert_equal_ends, checkpoints, finish, is_whole, train, write_config


def assert_one_line(output, path, text):
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    assert str(path) in lines[0]
    assert text in lines[0]
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "share", [0.5, *(pytest.param(share, marks=pytest.mark.faults) for share in (0.4, 0.9, 0.99))]
)
def test_a_file_size_limit_names_file_and_bytes_and_keeps_what_was_there(slow_run, tmp_path, share):
    config, expected = slow_run
    work_dir = tmp_path / "run"
    finish(config, work_dir, "--cfg-options", "train_cfg.max_iters=4")
    (last,) = (path for path in checkpoints(work_dir) if path.stem == "iter_4")
    limit = int(last.stat().st_size * share)
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}
    with train(config, work_dir, "--resume", **limited) as run:
        status, output = run.end()
        assert status == 1, output
        assert run.wait_until_gone() == []
    assert_one_line(output, work_dir, "cannot write")
    assert all(map(is_whole, checkpoints(work_dir)))
    assert last.exists()
    finish(config, work_dir, "--resume")
    assert_equal_ends(work_dir, expected)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 kB; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder]
    if os.name != "posix" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.faults
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(small_disk, tmp_path):
    large = {"model": {"width": 900}, "optimizer": {"type": "SGD", "lr": 1e-6}}
    config = write_config(tmp_path / "c", delay=0.0, **large)
    work_dir = small_disk / "run"
    with train(config, work_dir) as run:
        status, output = run.end()
    assert status == 1, output
    assert_one_line(output, work_dir / "iter_4.pth", "bytes are needed")
    assert [path.stem for path in checkpoints(work_dir)] == ["iter_2"]
    assert all(map(is_whole, checkpoints(work_dir)))
    subprocess.run(["mount", "-o", "remount,size=60m", small_disk], check=True)
    finish(config, work_dir, "--resume")
    finish(config, tmp_path / "whole")
    assert_equal_ends(work_dir, load_checkpoint(tmp_path / "whole" / "iter_40.pth"))


def test_a_disk_that_is_full_when_a_log_is_written_names_the_folder(tmp_path, monkeypatch):
    def write(hook, runner, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # no file is named

    monkeypatch.setattr(LoggerHook, "after_train_iter", write)
    with pytest.raises(WriteError, match=r"cannot write .*run: No space left"):
        engine_train(toy_config(tmp_path / "run"))
