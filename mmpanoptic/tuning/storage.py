"""Storages of trials by URL, made fit for workers that are killed and databases that go away."""

from __future__ import annotations

import functools
import os
import random
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmengine.logging import print_log

FORMS = "memory, sqlite:///FILE, journal:///FILE, postgresql://USER@HOST/DATABASE, mysql://..."
FINGERPRINT, WORKER = "fingerprint", "worker"
"""User attributes of a trial: what is evaluated in which context, and who does it."""
OPEN_TRIES = 20
"""Workers that start together disturb each other while the first makes the tables."""
LOCK_SECONDS = 10
"""After so long the lock of a journal's killed writer is taken away; a write takes milliseconds."""


@functools.cache
def require_optuna() -> Any:
    """Import Optuna.

    Returns:
        module: ``optuna``, with its messages reduced to warnings.

    Raises:
        ModuleNotFoundError: If it is absent, with what to install.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"search and tune need Optuna ({error}); install it: pip install 'mmpanoptic[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Signs of life are: the tests of this package watch over them.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_storage(
    url: str | None, heartbeat_seconds: int = 10, patience_seconds: float = 600
) -> Any:
    """Open a storage of trials.

    Args:
        url (str | None): ``memory`` (or None) for this process alone; ``sqlite:///FILE`` for the
            processes of one machine; ``journal:///FILE`` for machines that share a file system;
            a database server for more (``postgresql://``, ``mysql://``; SQLAlchemy's form).
        heartbeat_seconds (int): A worker gives a sign of life as often; after three to four times
            as long without one its trial is taken over.
        patience_seconds (float): An operation that fails since the database is away is tried
            again for as long.

    Returns:
        BaseStorage: The storage.

    Raises:
        ValueError: If the URL has another form, or a number is not positive.
        ModuleNotFoundError: If Optuna or the driver of the database is absent.
    """
    optuna = require_optuna()
    if heartbeat_seconds < 1 or int(heartbeat_seconds) != heartbeat_seconds:
        raise ValueError(f"heartbeat_seconds must be a whole number >= 1, got {heartbeat_seconds}")
    if url in (None, "memory"):
        return optuna.storages.InMemoryStorage()
    scheme, separator, rest = str(url).partition("://")
    if not separator:
        raise ValueError(f"storage {url!r} is no URL; there are {FORMS}")
    if scheme in ("sqlite", "journal"):
        file = Path(rest[1:])
        if not rest.startswith("/") or not file.name:
            raise ValueError(f"storage {url!r} names no file; there are {FORMS}")
        file.parent.mkdir(parents=True, exist_ok=True)
    if scheme == "journal":
        return _open_journal(file, int(heartbeat_seconds))
    return _open_database(str(url), int(heartbeat_seconds), patience_seconds)


@functools.cache
def _retry() -> Any:
    """Make the callback that queues the trial of a dead worker again."""
    optuna = require_optuna()

    class Retry(optuna.storages.RetryHeartbeatStaleTrialCallback):  # type: ignore
        def __call__(self, study: Any, trial: Any) -> None:
            trial.user_attrs.pop(WORKER, None)
            if FINGERPRINT in trial.user_attrs:  # else it died before it was a candidate
                super().__call__(study, trial)

    return Retry()


# ---- databases -----------------------------------------------------------------------------------


def _open_database(url: str, heartbeat: int, patience: float) -> Any:
    optuna = require_optuna()
    import sqlalchemy

    is_sqlite = url.startswith("sqlite")
    connect_args = {"timeout": 60} if is_sqlite else {}
    options = {
        "heartbeat_interval": heartbeat,
        "grace_period": 2 * heartbeat,
        "heartbeat_stale_trial_callback": _retry(),
        "engine_kwargs": {"connect_args": connect_args},
    }
    # Workers that start together shall not make the tables together.
    lock = FileLock(f"{url.partition(':///')[2]}.lock") if is_sqlite else nullcontext()
    for number in range(OPEN_TRIES):
        try:
            with lock:
                storage = _patient_class(patience)(url, **options)
            break
        except ImportError as error:
            raise ModuleNotFoundError(
                f"the driver for {url.partition(':')[0]} is absent ({error.__cause__ or error}); "
                "for PostgreSQL: pip install 'psycopg[binary]', for MySQL: pip install pymysql and "
                "mysql+pymysql://"
            ) from error
        except sqlalchemy.exc.ArgumentError as error:
            raise ValueError(f"storage {url!r}: {error}; there are {FORMS}") from error
        except sqlalchemy.exc.DBAPIError:
            if number == OPEN_TRIES - 1:
                raise
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - workers shall not meet again
    if is_sqlite:
        _serialise(storage.engine)
    return optuna.storages.get_storage(storage)


def _serialise(engine: Any) -> None:
    """Let SQLite's transactions follow one another.

    Python's driver begins a transaction at the first write, so that two workers could both read
    that a trial waits and both take it.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before lack the settings


@functools.cache
def _patient_class(patience: float) -> type:
    """Make a storage whose operations are tried again while the database is away."""
    optuna = require_optuna()

    class PatientStorage(optuna.storages.RDBStorage):  # type: ignore
        pass

    for name in dir(optuna.storages.BaseStorage):
        method = getattr(optuna.storages.RDBStorage, name)
        if callable(method) and not name.startswith("_"):
            setattr(PatientStorage, name, _patient(method, patience))
    for name in ("record_heartbeat", "_get_stale_trial_ids", "_get_trials", "_create_new_trial"):
        method = getattr(optuna.storages.RDBStorage, name)
        setattr(PatientStorage, name, _patient(method, patience))
    return PatientStorage


def _patient(method: Callable[..., Any], patience: float) -> Callable[..., Any]:
    """Try an operation of a storage again while the database is away.

    An operation whose answer was lost may have been done: to finish a trial twice is no fault, and
    of trials made twice :class:`~mmpanoptic.tuning.study.SharedStudy` uses the first.
    """
    optuna = require_optuna()

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        start, told, again = time.monotonic(), False, False
        while True:
            try:
                return method(self, *args, **kwargs)
            except optuna.exceptions.UpdateFinishedTrialError:
                if not again:
                    raise
                return True
            except Exception as error:
                if not _is_away(error) or time.monotonic() - start > patience:
                    raise
                if not told:
                    reason = str(error.__cause__ or error).strip().splitlines()[0]
                    print_log(f"the storage of trials is away, waiting ({reason})", "current", 30)
                told = again = True
                self.remove_session()
                time.sleep(random.uniform(0.2, 1.0))  # noqa: S311

    return call


def _is_away(error: Exception) -> bool:
    """Tell whether an operation failed for want of a connection or of a lock."""
    import sqlalchemy

    # Optuna goes on after some errors of a connection, and fails at its unfinished transaction.
    kinds = (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.PendingRollbackError,
    )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kinds):
            return True
        if isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.connection_invalidated:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


# ---- journal -------------------------------------------------------------------------------------


def _open_journal(file: Path, heartbeat: int) -> Any:
    return _journal_class()(file, heartbeat)


@functools.cache
def _journal_class() -> type:
    optuna = require_optuna()
    from optuna.storages._heartbeat import BaseHeartbeat
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage

    class MendingLock(JournalFileSymlinkLock):
        """Take away the half of a line that a killed writer left before the next one writes."""

        def acquire(self) -> bool:
            taken = super().acquire()
            with open(self._lock_target_file, "rb+") as file:
                size = file.seek(0, os.SEEK_END)
                if size and _byte_at(file, size - 1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            return taken

    class LivelyJournal(JournalStorage, BaseHeartbeat):
        """A journal with signs of life, which Optuna has for databases only.

        A sign is a counter; whoever waits notes by its own clock when it changed, since the clocks
        of machines disagree.
        """

        def __init__(self, file: Path, heartbeat: int) -> None:
            path = str(file.resolve())
            super().__init__(JournalFileBackend(path, MendingLock(path, LOCK_SECONDS)))
            self._heartbeat = heartbeat
            self._seen: dict[int, tuple[Any, float]] = {}
            self._count = 0

        def record_heartbeat(self, trial_id: int) -> None:
            self._count += 1
            self.set_trial_system_attr(trial_id, "heartbeat", [os.getpid(), self._count])

        def _get_stale_trial_ids(self, study_id: int) -> list[int]:
            running = (optuna.trial.TrialState.RUNNING,)
            stale = []
            for trial in self.get_all_trials(study_id, deepcopy=False, states=running):
                sign = trial.system_attrs.get("heartbeat")
                if sign is None:
                    continue
                now = time.monotonic()
                known, since = self._seen.setdefault(trial._trial_id, (sign, now))
                if known != sign:
                    self._seen[trial._trial_id] = (sign, now)
                elif now - since > 2 * self._heartbeat:
                    stale.append(trial._trial_id)
            return stale

        def get_heartbeat_interval(self) -> int:
            return self._heartbeat

        def get_heartbeat_stale_trial_callback(self) -> Any:
            return _retry()

    return LivelyJournal


def _byte_at(file: Any, place: int) -> bytes:
    file.seek(place)
    return file.read(1)
