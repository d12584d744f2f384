import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from mmpanoptic.utils.jobs import is_whole, remove_parts, run, usable_cpus, write_file


def slow_square(number):
    time.sleep(0.02 * (number % 3))
    return number * number


def fail_at(bad, number):
    if number == bad:
        raise ValueError(f"item {number} is bad")
    return number


def die_at(bad, number):
    if number == bad:
        os._exit(9)
    return number


@pytest.mark.parametrize("nproc", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(nproc):
    items = list(range(20))
    assert list(run(slow_square, items, nproc, "squares")) == [i * i for i in items]


@pytest.mark.parametrize("nproc", [1, 2])
def test_the_error_of_a_job_reaches_the_caller(nproc):
    results = run(partial(fail_at, 3), list(range(8)), nproc)
    with pytest.raises(ValueError, match="item 3 is bad"):
        list(results)


def test_a_dead_worker_is_explained():
    with pytest.raises(RuntimeError, match="smaller --nproc"):
        list(run(partial(die_at, 2), list(range(6)), 2))


def test_no_items_are_no_work():
    assert list(run(slow_square, [], 4, "nothing")) == []


def test_nproc_must_be_positive():
    with pytest.raises(ValueError, match="nproc must be at least 1, got 0"):
        list(run(slow_square, [1], 0))


def test_usable_cpus_are_those_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5}, raising=False)
    assert usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # not on every system
    assert usable_cpus() == os.cpu_count()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_file(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_empty_files_are_not_whole(tmp_path):
    path = tmp_path / "a.png"
    assert not is_whole(path)
    path.touch()
    assert not is_whole(path)
    write_file(path, b"x")
    assert is_whole(path)


def test_parts_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {f".a.png.{dead.pid}.part": False, f".b.png.{os.getppid()}.part": True, "c.png": True}
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    remove_parts(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


SCRIPT = """
import os, sys, time
from pathlib import Path
from mmpanoptic.utils.jobs import run
def work(i):
    Path(sys.argv[1], f"{os.getpid()}").touch()
    time.sleep(0.2)
list(run(work, list(range(1000)), 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))
