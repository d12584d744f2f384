"""Trials that several workers share: each candidate once, whoever dies."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ..utils.jobs import is_running
from .samplers import CONSTRAINTS
from .storage import FINGERPRINT, WORKER, require_optuna

VOID = "void"
"""User attribute of a trial that stands for nothing; it says why."""
REPEAT = "repeat_of"
"""User attribute of a trial whose candidate a sampler named again; its values are copied."""
MAX_DRAWS = 1000
"""Draws in a row that may repeat a candidate or leave the limits before a sampler gives up."""
MAX_TRACEBACK = 6000

Params = Mapping[str, Any]


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a nested plain value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Outcome:
    """What the evaluation of a candidate gave.

    Attributes:
        values (Sequence[float]): One per objective; empty if it failed.
        attributes (dict): Plain values to keep with the trial.
        error (str): Traceback of the failure; "" if there was none.
        pruned (bool): It was given up early.
    """

    values: Sequence[float] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    pruned: bool = False


Evaluate = Callable[[Any, Params], Outcome]
"""Evaluates a candidate: the trial's handle (for intermediate values) and its parameters."""


class SharedStudy:
    """A study of which any number of processes evaluate the trials.

    Every candidate is evaluated once: a trial is made with the fingerprint of its evaluation, and
    of several with one fingerprint the first counts. A trial whose worker died is queued again: at
    once if the worker was a process of this machine, which is never taken for dead while it runs,
    else when its signs of life stay away. A result that comes after that is refused.

    Args:
        storage (BaseStorage): From :func:`~mmpanoptic.tuning.open_storage`.
        name (str): First part of the study's name.
        space (Mapping): Optuna's distribution by name of the parameter.
        directions (Sequence[str]): ``maximize`` or ``minimize`` for each objective.
        context (Mapping): Everything besides the parameters on which an evaluation depends.
            Trials of another context are in another study.
        poll_seconds (float): Pause before looking again whether other workers are done.
        idle (Callable | None): Called at every pause.
        pruner (BasePruner | None): Optuna's pruner.
        initial (Callable | None): Attributes that a trial has from the beginning, by parameters.
    """

    def __init__(
        self,
        storage: Any,
        name: str,
        space: Mapping[str, Any],
        directions: Sequence[str],
        context: Mapping[str, Any],
        poll_seconds: float = 5.0,
        idle: Callable[[], None] | None = None,
        pruner: Any = None,
        initial: Callable[[Params], dict[str, Any]] | None = None,
    ) -> None:
        optuna = self.optuna = require_optuna()
        self.state = optuna.trial.TrialState
        self.storage, self.space = storage, dict(space)
        self.poll_seconds, self.idle = poll_seconds, idle or (lambda: None)
        self.initial = initial or (lambda params: {})
        self.context_digest = digest_of([dict(context), list(directions)])
        self.study = optuna.create_study(
            storage=storage,
            study_name=f"{name}-{self.context_digest[:12]}",
            directions=list(directions),
            load_if_exists=True,
            pruner=pruner or optuna.pruners.NopPruner(),
        )
        self.study_id = storage.get_study_id_from_name(self.study.study_name)
        if not self.study.user_attrs.get("context"):
            text = json.dumps(dict(context), sort_keys=True, default=str)
            self.study.set_user_attr("context", json.loads(text))
        self.progress: Callable[[Mapping[str, Any], int, int], None] = lambda *_: None
        self._seen: dict[int, float] = {}
        self._silent: dict[int, float] = {}
        self._mine: set[int] = set()
        self._looked = -math.inf

    def fingerprint(self, params: Params) -> str:
        """Name the evaluation of a candidate in this context."""
        return digest_of([sorted(params.items()), self.context_digest])[:32]

    # ---- what is there -----------------------------------------------------------------------

    def trials(self) -> dict[str, Any]:
        """Read the trials that count: the first of each fingerprint.

        Returns:
            dict[str, FrozenTrial]: In their order; also waiting and running ones.
        """
        found: dict[str, Any] = {}
        for trial in self._read():
            known = trial.user_attrs
            void = {VOID, REPEAT} & known.keys() or self._is_lost(trial)
            if FINGERPRINT in known and not void:
                found.setdefault(known[FINGERPRINT], trial)
        return found

    def finished(self) -> dict[str, Any]:
        """Read the finished ones of :meth:`trials`, failed and pruned ones too."""
        return {key: trial for key, trial in self.trials().items() if trial.state.is_finished()}

    def _read(self) -> list[Any]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def _is_lost(self, trial: Any) -> bool:
        """Tell whether its worker died; it was queued again."""
        return trial.state == self.state.FAIL and "error" not in trial.user_attrs

    # ---- evaluation of given candidates ------------------------------------------------------

    def evaluate(self, candidates: Sequence[Params], function: Evaluate) -> list[Any]:
        """Evaluate candidates together with the other workers; wait until all are done.

        Args:
            candidates (Sequence[Mapping]): Parameters of each.
            function (Callable): Evaluates one.

        Returns:
            list[FrozenTrial]: One per candidate.
        """
        wanted = {self.fingerprint(params): params for params in candidates}
        while True:
            trials = self.trials()
            todo = [k for k in wanted if k not in trials or not trials[k].state.is_finished()]
            self.progress(trials, len(todo), len(wanted))
            if not todo:
                return [trials[self.fingerprint(params)] for params in candidates]
            self._look_after_others(trials)
            if any(self._take_waiting(trials[k], function) for k in todo if k in trials):
                continue
            missing = [k for k in todo if k not in trials]
            if missing:
                # Alone in their order; with others anywhere, so that not all make the same trial.
                alone = len(missing) == len(todo)
                key = missing[0] if alone else random.choice(missing)  # noqa: S311
                self._start(wanted[key], function)
            else:
                self._pause()

    def _start(
        self,
        params: Params,
        function: Evaluate,
        system: Mapping[str, Any] | None = None,
        number: float = math.inf,
    ) -> bool:
        """Make a running trial; evaluate it unless another worker was faster, or there are enough.

        Args:
            params (Mapping): Of the candidate.
            function (Callable): Evaluates it.
            system (Mapping | None): What the sampler notes for itself.
            number (float): Trials that count, at most.
        """
        key = self.fingerprint(params)
        trial_id = self._add(params, self.state.RUNNING, system, {WORKER: _worker()})
        self._mine.add(trial_id)
        trials = self.trials()
        first = trials[key]
        if first._trial_id != trial_id:
            self._void(trial_id, "another worker was faster")
            return False
        if list(trials).index(key) >= number:
            self._void(trial_id, "other workers made the last ones")
            return False
        self._run(first, params, function)
        return True

    def _add(
        self,
        params: Params,
        state: Any,
        system: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        values: Sequence[float] | None = None,
    ) -> int:
        """Add a trial in one operation, so that the storage decides which of two is the first."""
        own = {FINGERPRINT: self.fingerprint(params), **self.initial(params), **(attributes or {})}
        template = self.optuna.trial.create_trial(
            state=state,
            params=dict(params),
            distributions=self.space,
            user_attrs=own,
            # Where Optuna's samplers look for what their constraints_func said.
            system_attrs={**(system or {}), **{k: own[k] for k in (CONSTRAINTS,) if k in own}},
            values=values,
        )
        return self.storage.create_new_trial(self.study_id, template)

    def _take_waiting(self, trial: Any, function: Evaluate) -> bool:
        """Evaluate a trial that was queued again, unless another worker does."""
        if trial.state != self.state.WAITING:
            return False
        with suppress(self.optuna.exceptions.UpdateFinishedTrialError):
            if self.storage.set_trial_state_values(trial._trial_id, self.state.RUNNING):
                self._mine.add(trial._trial_id)
                self.storage.set_trial_user_attr(trial._trial_id, WORKER, _worker())
                self._run(trial, trial.params, function)
                return True
        return False

    def _run(self, trial: Any, params: Params, function: Evaluate) -> None:
        with self._alive(trial._trial_id):
            outcome = function(trial, params)
        with suppress(self.optuna.exceptions.UpdateFinishedTrialError):
            # Raised where others took this worker for dead; the queued trial gives the same.
            for name, value in outcome.attributes.items():
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
            self._finish(trial._trial_id, outcome)

    def _finish(self, trial_id: int, outcome: Outcome) -> None:
        error = outcome.error
        if not error and not outcome.pruned and not all(map(math.isfinite, outcome.values)):
            error = f"the objectives are {list(outcome.values)}"
        if error:
            self.storage.set_trial_user_attr(trial_id, "error", error[-MAX_TRACEBACK:])
            self.storage.set_trial_state_values(trial_id, self.state.FAIL)
        else:
            state = self.state.PRUNED if outcome.pruned else self.state.COMPLETE
            self.storage.set_trial_state_values(trial_id, state, list(outcome.values))

    def handle(self, trial: Any) -> Any:
        """Give Optuna's handle of a running trial, which takes intermediate values."""
        # Its parameters are known, so that the study's sampler has nothing to draw.
        return self.optuna.trial.Trial(self.study, trial._trial_id)

    def _void(self, trial_id: int, reason: str) -> None:
        self.storage.set_trial_user_attr(trial_id, VOID, reason)
        self.storage.set_trial_state_values(trial_id, self.state.FAIL)

    # ---- candidates of a sampler -------------------------------------------------------------

    def sample(
        self,
        number: int,
        make_sampler: Callable[[int], Any],
        function: Evaluate,
        allowed: Callable[[Params], bool] = lambda params: True,
    ) -> list[Any]:
        """Evaluate candidates that one of Optuna's samplers names.

        A sampler is made anew for every candidate, with a seed of its own, so that a search that
        was stopped goes on as if it had not been.

        Args:
            number (int): How many different ones.
            make_sampler (Callable): Makes the sampler of the n-th draw.
            function (Callable): Evaluates one.
            allowed (Callable): Tells whether a candidate keeps the limits; others are told to the
                sampler as outside of its constraints and not evaluated.

        Returns:
            list[FrozenTrial]: The finished trials, in their order.

        Raises:
            RuntimeError: If :data:`MAX_DRAWS` draws in a row gave nothing new.
        """
        vain = 0
        while True:
            trials = self.trials()
            counted = list(trials.values())[:number]
            todo = [trial for trial in counted if not trial.state.is_finished()]
            self.progress(trials, number - len(counted) + len(todo), number)
            self._look_after_others(trials)
            if any(self._take_waiting(trial, function) for trial in todo):
                continue
            if len(counted) < number:
                vain = 0 if self._draw(number, make_sampler, function, allowed) else vain + 1
                if vain > MAX_DRAWS:
                    raise RuntimeError(
                        f"{MAX_DRAWS} draws of the sampler in a row were known already or outside "
                        "of the constraints; widen them or ask for fewer candidates"
                    )
            elif todo:
                self._pause()
            else:
                return counted

    def _draw(
        self,
        number: int,
        make_sampler: Callable[[int], Any],
        function: Evaluate,
        allowed: Callable[[Params], bool],
    ) -> bool:
        """Draw a candidate, and evaluate it if it is new; tell whether it was."""
        params, system = self._ask(make_sampler)
        first = self.trials().get(self.fingerprint(params))
        if first is not None and not first.state.is_finished():
            self._pause()  # the sampler names another one when this one's value is known
            return False
        if first is not None:
            # The sampler is told what is known.
            complete = first.state == self.state.COMPLETE
            values = first.values if complete else None
            self._add(params, first.state, system, {REPEAT: first.number}, values)
            return False
        if not allowed(params):
            self._add(params, self.state.PRUNED, system, {VOID: "outside of the constraints"})
            return False
        return self._start(params, function, system, number)

    def _ask(self, make_sampler: Callable[[int], Any]) -> tuple[Params, dict[str, Any]]:
        """Let a sampler name a candidate; the trials that died do not disturb it.

        Returns:
            tuple[Mapping, dict]: Its parameters; what the sampler notes for itself.
        """
        drawn = [t for t in self._read() if FINGERPRINT in t.user_attrs and not self._is_stale(t)]
        study = self.optuna.create_study(
            directions=self.study.directions, sampler=make_sampler(len(drawn))
        )
        for trial in drawn:
            if trial.state != self.state.WAITING:
                light = copy.copy(trial)  # metrics and tracebacks would be copied deeply
                light.user_attrs = {k: v for k, v in trial.user_attrs.items() if k == CONSTRAINTS}
                study.add_trial(light)
        params = study.ask(self.space).params
        return params, dict(study.get_trials(deepcopy=False)[-1].system_attrs)

    def _is_stale(self, trial: Any) -> bool:
        return self._is_lost(trial) and not {VOID, REPEAT} & trial.user_attrs.keys()

    # ---- the life of workers -----------------------------------------------------------------

    @contextmanager
    def _alive(self, trial_id: int) -> Iterator[None]:
        """Give signs of life until the block ends."""
        interval = getattr(self.storage, "get_heartbeat_interval", lambda: None)()
        stop = threading.Event()
        keeper = threading.Thread(target=self._beat, args=(trial_id, interval, stop), daemon=True)
        if interval:
            keeper.start()
        try:
            yield
        except BaseException:
            # Interrupted: the next worker need not wait.
            stop.set()
            with suppress(Exception):
                self._queue_again(trial_id)
            raise
        finally:
            stop.set()
            if interval:
                keeper.join()

    def _beat(self, trial_id: int, interval: float, stop: threading.Event) -> None:
        while not stop.wait(interval):
            try:
                self.storage.record_heartbeat(trial_id)
            except Exception as error:  # the storage is away; the next one may come through
                print_log(f"no sign of life of trial {trial_id}: {error}", "current", 30)

    def _look_after_others(self, trials: Mapping[str, Any]) -> None:
        """Queue the trials of dead workers again."""
        interval = getattr(self.storage, "get_heartbeat_interval", lambda: None)()
        if not interval:
            return
        now = time.monotonic()
        running = [trial for trial in trials.values() if trial.state == self.state.RUNNING]
        alive = {t._trial_id: _is_alive(t.user_attrs.get(WORKER)) for t in running}
        alive.update(dict.fromkeys(self._mine, True))
        for trial_id, known in alive.items():
            if known is False:
                self._queue_again(trial_id)
            elif known is None and now - self._seen.setdefault(trial_id, now) > 3 * interval:
                # It may have died before its first sign: give one for it, the last if so.
                self.storage.record_heartbeat(trial_id)
                self._seen[trial_id] = math.inf
        if now - self._looked > interval / 2:
            self._looked = now
            stale = self.storage._get_stale_trial_ids(self.study_id)
            # Seen twice: where the storage itself was away, signs of life come late.
            self._silent = {
                trial_id: self._silent.get(trial_id, now)
                for trial_id in stale
                if alive.get(trial_id) is None
            }
            for trial_id, since in self._silent.items():
                if now - since > interval:
                    self._queue_again(trial_id)

    def _queue_again(self, trial_id: int) -> None:
        with suppress(self.optuna.exceptions.UpdateFinishedTrialError):
            if self.storage.set_trial_state_values(trial_id, self.state.FAIL):
                again = self.storage.get_heartbeat_stale_trial_callback()
                again(self.study, copy.deepcopy(self.storage.get_trial(trial_id)))

    def _pause(self) -> None:
        self.idle()
        time.sleep(self.poll_seconds)


def _place() -> list[str]:
    """Name where process numbers mean the same: host, boot and the namespace of a container."""
    place = [socket.gethostname()]
    with suppress(OSError):
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(os.readlink("/proc/self/ns/pid"))
    return place


def _worker() -> dict[str, Any]:
    number = os.getpid()
    return {
        "host": socket.gethostname(),
        "process": number,
        "started": _start_of(number),
        "place": _place(),
    }


def _start_of(number: int) -> str | None:
    """Tell when a process of this machine began; None if it has ended or the system hides it."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    return None


def _is_alive(worker: Mapping[str, Any] | None) -> bool | None:
    """Tell whether a trial's worker is a process of this machine that runs.

    Returns:
        bool | None: None if that cannot be known here, as for workers of other machines.
    """
    if worker is None or worker["place"] != _place() or worker["process"] == os.getpid():
        return None
    if not is_running(worker["process"]):
        return False
    known = worker.get("started")  # another process may have its number now
    return None if known is None else _start_of(worker["process"]) == known
