"""Two machines of a run, played by two launchers on this one."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from .runs import ROOT, Run

SECONDS = 500
"""A machine may be busy; nothing here takes a tenth of it on a quiet one."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Machines:
    """Launchers of one run, each in the place of a machine with one GPU.

    Args:
        config: Of the training.
        work_dir: Its folder.
        *options: Of ``train.py``.
        others: Options of the second machine alone.
        variables: Of the environment of the second machine alone.
    """

    def __init__(self, config: Path, work_dir: Path, *options, others=(), variables=None) -> None:
        script = ROOT / "tools" / "dist_train.sh"
        self.command = [script, config, "1", "--work-dir", work_dir, *options]
        self.variables = {
            "NNODES": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "JOIN_TIMEOUT": str(SECONDS),
        }
        self.own = [((), {}), (others, variables or {})]
        self.stack = ExitStack()
        self.runs = [self.start(number) for number in range(2)]

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *error) -> None:
        self.stack.close()

    def start(self, number: int) -> Run:
        options, variables = self.own[number]
        variables = {**self.variables, "NODE_RANK": str(number), **variables}
        return self.stack.enter_context(Run([*self.command, *options], variables))

    def lose(self, number: int, whole: bool) -> None:
        """Kill a launcher, or all of its machine; then start it again, as Slurm's requeue does."""
        run = self.runs[number]
        for pid in run.living() if whole else [run.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.runs[number] = self.start(number)

    def end(self, status: int = 0) -> list[str]:
        """Wait until both have ended with this status; return what they said."""
        ends = [run.end(SECONDS) for run in self.runs]
        assert [code for code, _ in ends] == [status] * 2, "\n".join(text for _, text in ends)
        assert [run.wait_until_gone(60) for run in self.runs] == [[], []]
        return [text for _, text in ends]
