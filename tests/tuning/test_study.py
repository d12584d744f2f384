"""Trials that several processes share: none lost, none twice."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest

from mmpanoptic.tuning import Outcome, open_storage, require_optuna
from mmpanoptic.tuning.report import Progress, draw_front, front_study
from mmpanoptic.tuning.samplers import make_pruner, make_sampler
from mmpanoptic.tuning.study import VOID

from . import postgres, worker

FORK = multiprocessing.get_context("fork")
FILES = ("sqlite", "journal")


@pytest.fixture(scope="module")
def database():
    reason = postgres.reason_to_skip()
    if reason:
        pytest.skip(reason)
    with postgres.server() as server:
        yield server


@pytest.fixture(params=[*FILES, "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("database").url
    return f"{request.param}:///{tmp_path}/study.db"


def start(*args):
    process = FORK.Process(target=worker.main, args=[str(arg) for arg in args])
    process.start()
    return process


def lines(log, word="start"):
    if not log.exists():
        return []
    return [line.split()[1:3] for line in log.read_text().splitlines() if line.startswith(word)]


def beginnings(log, pid):
    text = log.read_text() if log.exists() else ""
    return sum(line.startswith("start") and line.endswith(f" {pid}") for line in text.splitlines())


def test_workers_that_are_killed_lose_nothing_and_do_nothing_twice(url, tmp_path):
    number, log = 24, tmp_path / "log"
    first = [start(url, number, 0.05, log, "given", 2, 3) for _ in range(3)]
    for victim in first[:2]:
        while beginnings(log, victim.pid) < 2:
            assert victim.is_alive()
            time.sleep(0.01)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    late = start(url, number, 0.05, log)
    for process in (first[2], late):
        process.join()
        assert process.exitcode == 0
    study = worker.make_study(url, number)
    finished = study.finished()
    assert len(finished) == number
    assert all(t.value == worker.value(t.params) for t in finished.values())
    # What a killed worker had begun is begun again, nothing else.
    assert number <= len(lines(log)) <= number + 2
    complete = [t for t in study._read() if t.state.name == "COMPLETE"]
    assert len(complete) == number
    assert len({t.user_attrs["worker"]["process"] for t in complete}) >= 3


def test_a_worker_of_another_machine_is_taken_for_dead_after_its_last_sign(url, monkeypatch):
    study, other = (worker.make_study(url, 3, heartbeat=1) for _ in range(2))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("mmpanoptic.tuning.study._place", lambda: ["elsewhere"])
        begun = threading.Event()

        def hang(trial, params):
            begun.set()
            time.sleep(3600)

        # Its signs of life stay away, as if the machine was gone.
        elsewhere.setattr(other.storage, "get_heartbeat_interval", lambda: None)
        candidate = worker.candidates(3)[:1]
        thread = threading.Thread(target=other.evaluate, args=(candidate, hang), daemon=True)
        thread.start()
        begun.wait()
    since = time.monotonic()
    (trial,) = study.evaluate(candidate, lambda trial, params: Outcome([7.0]))
    assert trial.value == 7.0
    assert 3 <= time.monotonic() - since < 60


def test_a_living_worker_keeps_its_trial(url, tmp_path, monkeypatch):
    monkeypatch.setattr("mmpanoptic.tuning.study._is_alive", lambda worker: None)
    log = tmp_path / "log"
    slow = start(url, 1, 8, log)
    while not lines(log):
        time.sleep(0.05)
    study = worker.make_study(url, 1)
    (trial,) = study.evaluate(worker.candidates(1), worker.evaluator(0, log))
    slow.join()
    assert slow.exitcode == 0
    assert len(lines(log)) == 1
    assert trial.user_attrs["worker"]["process"] == slow.pid


def test_a_worker_of_this_machine_is_not_doubled_while_it_runs(url, tmp_path, monkeypatch):
    """Load, or a debugger, may keep it from giving any sign of life."""
    log = tmp_path / "log"
    with monkeypatch.context() as silent:
        silent.setattr("mmpanoptic.tuning.study.SharedStudy._beat", lambda *_: None)
        slow = start(url, 5, 120, log, "given", 1)
    while not lines(log):
        time.sleep(0.05)
    study = worker.make_study(url, 5, heartbeat=1)
    candidate = worker.candidates(1)
    thread = threading.Thread(target=study.evaluate, args=(candidate, lambda *_: Outcome([1.0])))
    thread.start()
    thread.join(5)
    running = [t for t in study._read() if t.state.name == "RUNNING"]
    assert thread.is_alive()
    assert [t.user_attrs["worker"]["process"] for t in running] == [slow.pid]
    assert len(study._read()) == 1
    os.kill(slow.pid, signal.SIGKILL)
    slow.join()
    thread.join()


def test_a_result_that_comes_after_the_take_over_is_refused(url, monkeypatch):
    study, late = (worker.make_study(url, 6, heartbeat=1) for _ in range(2))
    candidate, begun, go_on, given = worker.candidates(1), threading.Event(), threading.Event(), []

    def slow(trial, params):
        begun.set()
        go_on.wait()
        return Outcome([3.0], {"metrics": {"PQ": 3.0}})

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("mmpanoptic.tuning.study._place", lambda: ["elsewhere"])
        elsewhere.setattr(late, "_beat", lambda *_: None)
        thread = threading.Thread(target=lambda: given.extend(late.evaluate(candidate, slow)))
        thread.start()
        begun.wait()
    study.evaluate(candidate, lambda trial, params: Outcome([7.0], {"metrics": {"PQ": 7.0}}))
    go_on.set()
    thread.join()
    complete = [t for t in study._read() if t.state.name == "COMPLETE"]
    assert [t.value for t in complete] == [t.value for t in given] == [7.0]
    assert all(t.user_attrs.get("metrics", {"PQ": 7.0}) == {"PQ": 7.0} for t in study._read())


def test_a_database_that_goes_away_is_waited_for(database, tmp_path):
    number, log = 25, tmp_path / "log"
    workers = [start(database.url, number, 0.05, log) for _ in range(2)]
    while len(lines(log)) < 5:
        time.sleep(0.02)
    database.stop()
    time.sleep(2)
    assert all(process.is_alive() for process in workers)
    database.start()
    for process in workers:
        process.join()
        assert process.exitcode == 0
    assert len(worker.make_study(database.url, number).finished()) == number
    complete = [
        t for t in worker.make_study(database.url, number)._read() if t.state.name == "COMPLETE"
    ]
    assert len(complete) == number


def test_of_racing_workers_one_evaluates(url):
    study, count = worker.make_study(url, 2), []
    others = [worker.make_study(url, 2) for _ in range(3)]
    barrier = threading.Barrier(4)

    def race(one):
        barrier.wait()
        one.evaluate(
            worker.candidates(2), lambda trial, params: count.append(params) or Outcome([1.0])
        )

    threads = [threading.Thread(target=race, args=(one,)) for one in (study, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 2
    assert len(study.finished()) == 2


SAMPLERS = ["RandomSampler", "TPESampler", "NSGAIISampler"]


def draw(study, kind, number=14, stop=None):
    found = []

    def evaluate(trial, params):
        if len(found) == stop:
            raise KeyboardInterrupt
        found.append(dict(params))
        return Outcome([worker.value(params)])

    try:
        options = {"population_size": 4} if kind.startswith("NSGA") else {}
        study.sample(number, lambda n: make_sampler({"type": kind, **options}, n), evaluate)
    except KeyboardInterrupt:
        pass
    return found


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_stopped_sampler_goes_on_as_if_it_had_not_been_stopped(kind, tmp_path):
    whole = draw(worker.make_study("memory", 64), kind)
    assert len({tuple(params.items()) for params in whole}) == 14
    url = f"journal:///{tmp_path}/study.log"
    first = draw(worker.make_study(url, 64), kind, stop=5)
    second = draw(worker.make_study(url, 64), kind)
    assert first + second == whole


def test_workers_of_a_sampler_evaluate_different_candidates(tmp_path):
    url, log = f"sqlite:///{tmp_path}/study.db", tmp_path / "log"
    workers = [start(url, 16, 0.02, log, "TPESampler") for _ in range(3)]
    for process in workers:
        process.join()
        assert process.exitcode == 0
    begun = [tuple(one) for one in lines(log)]
    assert len(begun) == len(set(begun)) == 16


def test_a_sampler_that_finds_nothing_new_ends_with_an_error(monkeypatch):
    monkeypatch.setattr("mmpanoptic.tuning.study.MAX_DRAWS", 20)
    study = worker.make_study("memory", 8)
    with pytest.raises(RuntimeError, match="outside of the constraints"):
        study.sample(
            3,
            lambda n: make_sampler({"type": "RandomSampler"}, n),
            lambda trial, params: Outcome([1.0]),
            lambda params: params["a"] == 3 and params["b"] == 0,
        )
    assert len(study.finished()) == 1
    outside = [t for t in study._read() if t.user_attrs.get(VOID) == "outside of the constraints"]
    assert len(outside) > 20


def test_failures_and_values_that_are_no_numbers_are_kept_with_their_reason():
    study = worker.make_study("memory", 3)
    outcomes = iter([Outcome(error="Traceback: bad"), Outcome([float("nan")]), Outcome([1.0])])
    trials = study.evaluate(worker.candidates(3), lambda trial, params: next(outcomes))
    assert [t.state.name for t in trials] == ["FAIL", "FAIL", "COMPLETE"]
    assert trials[0].user_attrs["error"] == "Traceback: bad"
    assert "nan" in trials[1].user_attrs["error"]
    assert study.evaluate(worker.candidates(3), None) == trials  # nothing is evaluated again


def test_another_context_is_another_study(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    one, two = worker.make_study(url, 3), worker.make_study(url, 4)
    one.evaluate(worker.candidates(3), lambda trial, params: Outcome([1.0]))
    assert one.study.study_name != two.study.study_name
    assert two.finished() == {}
    assert two.study.user_attrs["context"] == {"number": 4}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("study.db", "is no URL; there are memory, sqlite:///FILE"),
        ("sqlite://", "names no file"),
        ("oracle7://x/y", "there are memory"),
    ],
)
def test_a_wrong_storage_is_explained(url, words):
    with pytest.raises(ValueError, match=words):
        open_storage(url)


def test_an_absent_driver_or_engine_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(ModuleNotFoundError, match=r"driver for mysql\+pymysql is absent"):
        open_storage("mysql+pymysql://x/y")
    require_optuna.cache_clear()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mmpanoptic\[search\]'"):
        open_storage("memory")
    monkeypatch.undo()
    require_optuna.cache_clear()


def test_half_a_line_of_a_journal_is_taken_away(tmp_path):
    url, file = f"journal:///{tmp_path}/study.log", tmp_path / "study.log"
    worker.make_study(url, 2).evaluate(worker.candidates(1), lambda t, p: Outcome([1.0]))
    with open(file, "a") as journal:
        journal.write('{"op_code": 4, "work')  # killed while it wrote
    study = worker.make_study(url, 2)
    study.evaluate(worker.candidates(2), lambda trial, params: Outcome([2.0]))
    assert [t.value for t in worker.make_study(url, 2).finished().values()] == [1.0, 2.0]


def test_samplers_and_pruners_are_found_by_name():
    with pytest.raises(ValueError, match="TPESampler"):
        make_sampler({"type": "TPE"}, 0)
    with pytest.raises(ValueError, match="TPESampler"):
        make_sampler({"type": "TPESampler", "speed": 1}, 0)
    with pytest.raises(ValueError, match="MedianPruner"):
        make_pruner({"type": "Median"})
    assert type(make_pruner({"type": "SuccessiveHalvingPruner"})).__name__.startswith("Success")


def test_the_pareto_set_has_no_dominated_member(tmp_path):
    values = {"a": [3.0, 5.0], "b": [4.0, 5.0], "c": [1.0, 2.0], "d": [3.9, 9.0]}
    study, front = front_study(list(values.items()), ["maximize", "minimize"])
    assert front == ["c", "b"]
    draw_front(tmp_path / "front", study, ["PQ", "macs"])
    import cv2

    assert cv2.imread(str(tmp_path / "front.png")).std() > 10
    assert "macs" in (tmp_path / "front.html").read_text()


def test_progress_tells_what_is_left_and_how_long_it_takes():
    study = worker.make_study("memory", 8)
    outcomes = itertools.chain([Outcome(error="x")], (Outcome([float(i)]) for i in range(5)))
    study.evaluate(worker.candidates(6), lambda trial, params: next(outcomes))
    progress = Progress(None, "PQ")
    progress._start = (100.0, 2)
    line = progress.line(study.trials(), left=6, total=12, now=160.0)
    # 4 of the 6 came within the 60 s
    assert line == (
        "6 of 12 candidates of this round are evaluated; best PQ 4; 1 failed; about 0:01:30 to go"
    )
