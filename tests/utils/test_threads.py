"""Threads are settled before torch is there, honour the user, and look at the machine."""

import os
import subprocess
import sys

import pytest

from mmpanoptic.utils import threads

VARIABLES = (threads.NUMBER, *threads.WAITING, "LOCAL_WORLD_SIZE")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Four processors of which ``busy`` are taken by others, no limits, no variables."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 4)
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(threads, "_said", [])

    def set_busy(number):
        monkeypatch.setattr(threads, "busy_processors", lambda seconds: number)

    set_busy(0.1)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # noted, so that what the code sets is taken back, too
        monkeypatch.delenv(name)
    return set_busy


def test_a_quiet_machine_spins_shortly_and_keeps_torchs_number(machine):
    threads.settle()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    assert threads.NUMBER not in os.environ
    assert "OMP_WAIT_POLICY" not in os.environ
    assert "GOMP_SPINCOUNT=10000" in threads.describe(4)


def test_beside_a_busy_neighbour_threads_sleep(machine):
    machine(1.0)
    threads.settle()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "others keep 1.0 of 4 processors busy" in threads.describe(4)


def test_fewer_threads_leave_room_for_the_neighbour(machine, monkeypatch):
    machine(1.0)
    monkeypatch.setenv(threads.NUMBER, "3")
    threads.settle()
    assert os.environ.get("GOMP_SPINCOUNT") == "10000"
    assert "OMP_NUM_THREADS=3 is given" in threads.describe(3)


@pytest.mark.parametrize("name", threads.WAITING)
def test_what_the_user_says_about_waiting_stays(machine, monkeypatch, name):
    machine(3.0)
    monkeypatch.setenv(name, "17")
    threads.settle()
    others = set(threads.WAITING) - {name}
    assert os.environ[name] == "17"
    assert others.isdisjoint(os.environ)
    assert f"as given ({name}=17)" in threads.describe(4)


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "broken\n"}, 4),
    ],
)
def test_a_container_bounds_the_threads(machine, tmp_path, files, share):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert threads.processor_share() == share
    threads.settle()
    assert os.environ.get(threads.NUMBER) == (str(share) if share < 4 else None)


def test_processes_of_a_run_share_the_processors(machine, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert threads.processor_share() == 2


def test_ticks_come_from_usable_processors_only(monkeypatch, tmp_path):
    rows = ["cpu  9 9 9 9 9 9 9 9 0 0", "cpu0 1 2 3 40 5 6 7 8 0 0", "cpu1 1 1 1 1 1 1 1 1 0 0"]
    (tmp_path / "stat").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(threads, "_PROC", tmp_path)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert threads.read_ticks() == (45, 72)
    (tmp_path / "stat").write_text("what is this\n")
    assert threads.read_ticks() is None


def test_where_the_system_says_nothing_threads_spin_shortly(machine):
    machine(None)
    threads.settle()
    assert "not measured here" in threads.describe(4)


def test_with_torch_there_nothing_is_changed_or_claimed(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    machine(3.0)
    threads.settle()
    assert not set(VARIABLES) & set(os.environ)
    assert threads.describe(4) == "threads: 4 (as PyTorch came); their waiting, too"


def test_commands_settle_before_torch_is_loaded(tmp_path):
    """The variable is there although the command then fails for want of a config."""
    script = (
        "import os, sys\n"
        "from mmpanoptic.commands import main\n"
        "for word in ('train', 'test'):\n"
        "    main([word, 'no_such_config', 'no.pth'][: 2 + (word == 'test')])\n"
        "print(os.environ.get('GOMP_SPINCOUNT') or os.environ.get('OMP_WAIT_POLICY'))\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert done.stdout.split()[-1] in ("10000", "PASSIVE"), done.stderr
