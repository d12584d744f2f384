"""Find out which process of a distributed run is lost, and end the others."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook

from ..utils.jobs import is_running
from .checkpoint_state import bare_model

if TYPE_CHECKING:
    from .runner import PanopticRunner

DEFAULT_TIMEOUT = 1800.0
"""Seconds that the others wait for a process, where ``env_cfg.dist_cfg.timeout`` does not say."""
SLACK = 60.0
"""Seconds more that a collective operation waits: the watch, which can say more, comes first."""

_BEAT_SECONDS = 1.0
_SILENT_BEATS = 6  # after a broken connection: who has not spoken for so long is gone
_BROKEN = ("gloo", "nccl", "Connection closed", "Connection reset", "Broken pipe", "timed out")
# What a process has done of an iteration; who has done least is the one that the others wait for.
_LOADING, _STARTED, _LOSS_KNOWN, _VALIDATING, _VALIDATED = range(5)
_PLACES = {
    _LOADING: "waiting for the data of iteration {next}",
    _STARTED: "in the forward pass of iteration {next}",
    _LOSS_KNOWN: "behind the forward pass of iteration {next}",
    _VALIDATING: "in the validation after iteration {done}",
    _VALIDATED: "behind the validation after iteration {done}",
}


class LostRankError(RuntimeError):
    """Another process of the run has ended or does not move."""


@dataclass
class _Rank:
    """What is known of a process: its last words, and since when they are the same."""

    words: Mapping[str, Any]
    spoke: float
    moved: float

    def hear(self, words: Mapping[str, Any], now: float) -> None:
        if words["beat"] != self.words["beat"]:
            self.spoke = now
        if words["moves"] != self.words["moves"]:
            self.moved = now
        self.words = words

    def has_ended(self) -> bool:
        """Tell whether the process is known to be gone; of other machines it is not known."""
        if self.words["host"] != socket.gethostname():
            return False
        if not is_running(self.words["pid"]):
            return True
        try:  # until its parent has looked at it, it stays in the list of processes
            return ") Z " in Path(f"/proc/{self.words['pid']}/stat").read_text(encoding="utf-8")
        except OSError:
            return False

    def is_lost(self, limit: float) -> bool:
        return self.spoke < limit or bool(self.words["error"]) or self.has_ended()

    def place(self) -> str:
        done, part = divmod(self.words["position"], len(_PLACES))
        place = _PLACES[part].format(done=done, next=done + 1) if done + part else "starting"
        return f"process {self.words['pid']} on {self.words['host']}, {place}"


class RankWatch:
    """Beats of all processes, exchanged beside the collective operations.

    A thread of every process writes once a second that it lives, and how far its training has come,
    into the store of the process group, and reads what the others write. So it is known who is
    lost, which the error of a collective operation does not tell, if there is one.

    Args:
        timeout (float): Seconds after which a process that does not move, while another one waits
            for it, is lost; and so is one that does not beat.
        end (Callable | None): Ends this process; for tests.
    """

    def __init__(self, timeout: float, end: Callable[[str], None] | None = None) -> None:
        self.timeout = timeout
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.active = False
        self._end = end or _end_process
        self._words: dict[str, Any] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "beat": 0,
            "moves": 0,
        }
        self._words |= {"position": 0, "error": ""}
        self._ranks: dict[int, _Rank] = {}
        self._store_lost = False
        store = dist.distributed_c10d._get_default_store()
        self._store = store.clone() if hasattr(store, "clone") else store
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rank watch", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Turn errors of lost connections into one that names the process; note other errors.

        Raises:
            LostRankError: On the first of the processes that are left. The others exit with
                status 1.
        """
        self.active = True
        try:
            yield
        except Exception as error:
            if not _is_broken_connection(error):
                self._words["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                raise
            self.active = False  # the thread leaves it to this one
            text, speaks = self._find_lost()
            if not speaks:
                raise SystemExit(1) from None
            raise LostRankError(text) from error
        finally:
            self.active = False
            self._speak()

    def move(self, iteration: int, part: int) -> None:
        """Say how far this process has come.

        Args:
            iteration (int): Finished iterations.
            part (int): What of the next one is done.
        """
        self._words["position"] = iteration * len(_PLACES) + part
        self._words["moves"] += 1

    def stop(self) -> None:
        """Stop beating; to be called by all processes together.

        A thread that still spoke to the store while the interpreter ends could not give back the
        interpreter's lock, and would stand in the way of the end.
        """
        self._stopped.set()
        self._thread.join(_SILENT_BEATS * _BEAT_SECONDS)

    # ---- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.wait(_BEAT_SECONDS):
            self._words["beat"] += 1
            try:
                self._speak()
                self._listen()
            except Exception:  # the store is gone
                self._store_lost = True
                if self.active:
                    self._leave_alone()
                return
            if self.active:
                self._judge()

    def _speak(self) -> None:
        self._store.set(f"mmpanoptic/{self.rank}", json.dumps(self._words))

    def _listen(self) -> None:
        now = time.monotonic()
        for rank in range(self.world_size):
            key = f"mmpanoptic/{rank}"
            if not self._store.check([key]):
                continue
            words = json.loads(self._store.get(key))
            self._ranks.setdefault(rank, _Rank(words, now, now)).hear(words, now)

    def _judge(self) -> None:
        """End this process if another one is lost."""
        now = time.monotonic()
        silent = [r for r, one in self._ranks.items() if now - one.spoke > self.timeout]
        still = [r for r, one in self._ranks.items() if now - one.moved > self.timeout]
        lost = silent or self._behind(still)
        if not lost or self.rank in lost:
            return
        what = "has given no sign of life" if silent else "has not moved"
        text = "; ".join(
            f"rank {rank} {what} for {self.timeout:g} s ({self._ranks[rank].place()})"
            for rank in lost
        )
        speaks = self.rank == min(set(self._ranks) - set(lost))
        self._end(f"{text}; the others end with it. Go on with --resume" if speaks else "")

    def _behind(self, ranks: list[int]) -> list[int]:
        """Choose those that have come least far; none if all have come equally far."""
        place = {rank: one.words["position"] for rank, one in self._ranks.items()}
        least = [rank for rank in ranks if place[rank] == min(place.values())]
        return least if max(place.values()) > min(place.values()) else []

    def _leave_alone(self) -> None:
        """Go on without the store, whose owner has ended: rank 0, or the launcher.

        Without rank 0 the next collective operation fails. Without the launcher nothing does, but
        nobody would end this process any more: it saves and ends itself.
        """
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._stopped.wait(self.timeout) and self.active:
            self._end(f"{self._store_owner()} has ended; this process ends with it")

    def _store_owner(self) -> str:
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return "the launcher (torchrun)" if agent else "rank 0"

    # ---- after a broken connection -----------------------------------------------------------

    def _find_lost(self) -> tuple[str, bool]:
        """Say who is lost; and whether this process is the one to say it."""
        begin = time.monotonic()
        while not self._store_lost and time.monotonic() - begin < 2 * _SILENT_BEATS * _BEAT_SECONDS:
            now = time.monotonic()
            limit = now - _SILENT_BEATS * _BEAT_SECONDS
            lost = [rank for rank, one in self._ranks.items() if one.is_lost(limit)]
            late = now - self.timeout + _SILENT_BEATS
            lost = lost or self._behind([r for r, one in self._ranks.items() if one.moved < late])
            if lost:
                break
            time.sleep(_BEAT_SECONDS / 4)
        else:
            if self._store_lost:
                return f"{self._store_owner()} has ended. Go on with --resume", True
            lost = self._behind(list(self._ranks))
        left = set(self._ranks) - set(lost) or {self.rank}
        if not lost:
            text = "the connection between the processes broke, though all of them live"
            return f"{text}; look at the network", self.rank == min(left)
        text = "; ".join(map(self._describe, lost))
        return f"{text}; the others end with it. Go on with --resume", self.rank == min(left)

    def _describe(self, rank: int) -> str:
        one = self._ranks[rank]
        if one.words["error"]:
            return f"rank {rank} stopped ({one.place()}): {one.words['error']}"
        silent = time.monotonic() - one.spoke > _SILENT_BEATS * _BEAT_SECONDS
        what = "gives no sign of life" if silent else "does not move"
        return f"rank {rank} {'has ended' if one.has_ended() else what} ({one.place()})"


class RankWatchHook(Hook):
    """Tell the watch how far this process has come.

    Args:
        watch (RankWatch): The watch.
    """

    priority = "LOWEST"  # what hooks do, such as writing checkpoints, belongs to the iteration

    def __init__(self, watch: RankWatch) -> None:
        self.watch = watch
        self._iteration = 0

    def before_train(self, runner: PanopticRunner) -> None:
        """Find out when the loss is known."""
        self._iteration = runner.iter
        self._handle = bare_model(runner.model).register_forward_hook(self._note_loss)

    def after_train(self, runner: PanopticRunner) -> None:
        """Leave the model as it was."""
        self._handle.remove()

    def before_train_iter(self, runner: PanopticRunner, *_: Any, **__: Any) -> None:
        """The batch is there."""
        self._iteration = runner.iter
        self.watch.move(runner.iter, _STARTED)

    def _note_loss(self, module: torch.nn.Module, *_: Any) -> None:
        if module.training:
            self.watch.move(self._iteration, _LOSS_KNOWN)

    def after_train_iter(self, runner: PanopticRunner, *_: Any, **__: Any) -> None:
        """The iteration is over."""
        self.watch.move(runner.iter + 1, _LOADING)

    def before_val_epoch(self, runner: PanopticRunner) -> None:
        """The validation begins."""
        self.watch.move(runner.iter, _VALIDATING)

    def after_val_iter(self, runner: PanopticRunner, *_: Any, **__: Any) -> None:
        """The validation goes on; processes may have unequal shares of it."""
        self.watch.move(runner.iter, _VALIDATING)

    def after_val_epoch(self, runner: PanopticRunner, *_: Any, **__: Any) -> None:
        """The validation is over."""
        self.watch.move(runner.iter, _VALIDATED)


def _is_broken_connection(error: Exception) -> bool:
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word.lower() in text for word in _BROKEN)


def _end_process(text: str) -> None:
    """End at once: the main thread waits for a process that will not answer."""
    if text:
        os.write(2, f"error: {text}\n".encode())  # whoever holds the stream may wait, too
    os._exit(1)
