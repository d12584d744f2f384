"""Trainings in processes of their own: started, watched, killed, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from mmpanoptic.checkpoints.integrity import DamagedCheckpointError, verify_checkpoint
from mmpanoptic.checkpoints.loading import load_checkpoint
from tests.engine.toy import assert_same, toy_config

ROOT = Path(__file__).parent.parent.parent
STEPS = 40
MARK = "MMPANOPTIC_FAULT_TEST"


def write_config(folder: Path, delay: float = 0.04, **changes) -> Path:
    """Write the config of a run of 40 iterations with two data workers; it takes seconds."""
    cfg = toy_config(folder / "unused", **{"steps": STEPS, "workers": 2, **changes})
    cfg.train_dataloader.dataset.delay = delay
    cfg.val_dataloader.dataset.delay = 0.0
    cfg.default_hooks.checkpoint.interval = 2
    cfg.custom_hooks.append({"type": "StopSignalHook"})
    for key in ("experiment_name", "work_dir"):
        cfg.pop(key)
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / "toy config.py")
    return folder / "toy config.py"


class Run:
    """A training in a process group of its own.

    Args:
        command: Program and arguments.
        variables: Of its environment.
        **settings: Of ``subprocess.Popen``.
    """

    def __init__(self, command: list, variables: dict | None = None, **settings) -> None:
        self.mark = uuid.uuid4().hex
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: self.mark}
        env |= {"PYTHON": sys.executable, "PYTHONFAULTHANDLER": "1", **(variables or {})}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **settings,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error) -> None:
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def end(self, seconds: float = 200) -> tuple[int, str]:
        """Wait until it has ended; return status and output.

        Raises:
            AssertionError: If it has not ended by then; with where each of its processes stands.
        """
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            living = self.living()
            for pid in living:
                os.kill(pid, signal.SIGABRT)  # the fault handler shows the stacks of all threads
            output, _ = self.process.communicate(timeout=30)
            raise AssertionError(f"still running after {seconds} s: {living}\n{output}") from None
        return self.process.returncode, output

    def living(self) -> list[int]:
        """List its processes, whatever became of their parents."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes()
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in environment and state != "Z":
                found.append(int(path.name))
        return found

    def wait_for(self, condition, seconds: float = 120) -> bool:
        """Wait until something is the case or the run has ended; tell whether it is the case."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return bool(condition())
            time.sleep(0.01)
        return bool(found)

    def wait_until_gone(self, seconds: float = 10) -> list[int]:
        """Wait until none of its processes lives; return those that still do."""
        deadline = time.monotonic() + seconds
        while (left := self.living()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


def train(config: Path, work_dir: Path, *more, **settings) -> Run:
    """Start a training."""
    tool = ROOT / "tools" / "train.py"
    return Run([sys.executable, tool, config, "--work-dir", work_dir, *more], **settings)


def finish(config: Path, work_dir: Path, *more) -> str:
    """Train to the end; return the output."""
    with train(config, work_dir, *more) as run:
        status, output = run.end()
    assert status == 0, output
    return output


def checkpoints(folder: Path) -> list[Path]:
    """List the regular checkpoints, the oldest first."""
    return sorted(folder.glob("iter_*.pth"), key=lambda path: int(path.stem.split("_")[1]))


def newest_time(folder: Path) -> int:
    return max((path.stat().st_mtime_ns for path in folder.glob("[a-z]*.pth")), default=0)


def assert_equal_ends(folder: Path, expected: dict) -> None:
    """Assert that a run has ended with these weights, and left nothing half-written."""
    content = load_checkpoint(folder / f"iter_{STEPS}.pth")
    for part in ("state_dict", "ema_state_dict"):
        assert_same(content[part], expected[part])
    assert content["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]
    assert not list(folder.glob(".*.pth"))


def is_whole(path: Path) -> bool:
    try:
        verify_checkpoint(path)
    except DamagedCheckpointError:
        return False
    return True
