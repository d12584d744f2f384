import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.nas.evaluation import CandidateEvaluator
from mmpanoptic.nas.loops import EvolutionSearchLoop
from mmpanoptic.nas.space import SearchSpace
from tests.engine.toy import train
from tests.nas.toy import SPACE, search_config, supernet_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernet")
    train(supernet_config(folder, steps=6))
    return folder / "iter_6.pth"


def search(work_dir, weights, *args, **options):
    train(search_config(work_dir, weights, *args, **options))
    return result(Path(options.get("folder", work_dir / "search")))


def result(folder):
    content = json.loads((folder / "search.json").read_text())
    for evaluation in content["evaluations"]:
        evaluation.pop("seconds")
        evaluation.pop("host")
    return content


def records(folder):
    """Evaluations in the storage of a search's folder: attributes of the finished trials."""
    file = folder / "study.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as base:
        text = "select trial_id, key, value_json from trial_user_attributes natural join trials"
        done = "where state in ('COMPLETE', 'PRUNED', 'FAIL')"
        try:
            rows = base.execute(f"{text} {done} order by trial_id").fetchall()
        except sqlite3.OperationalError:  # no tables yet
            return []
    found = {}
    for trial, key, value in rows:
        found.setdefault(trial, {})[key] = json.loads(value)
    return [one for one in found.values() if "seconds" in one]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, weights):
    """The result of a search that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return search(folder, weights, storage=None), folder


def test_a_search_reports_and_exports(whole, weights):
    content, folder = whole
    assert content["loop"] == "PathPrioritySearchLoop"
    assert len(content["scores"]) == 5
    names = {path.name for path in (folder / "search").iterdir()}
    assert {"evaluations.csv", "scoreboard.png"} <= names
    best = content["models"][0]["digits"]
    exported = load_checkpoint(folder / "search" / "models" / "model_0.pth")
    assert exported["meta"]["architecture"] == best
    supernet = load_checkpoint(weights)["state_dict"]
    choice = best[3]
    assert torch.equal(exported["state_dict"]["head.0.weight"], supernet[f"head.0.{choice}.weight"])


def test_a_second_run_evaluates_nothing(whole, weights, monkeypatch):
    content, folder = whole
    count = len(records(folder / "search"))
    monkeypatch.setattr(CandidateEvaluator, "__call__", None)
    assert search(folder, weights, storage=None) == content
    assert len(records(folder / "search")) == count


def test_other_weights_reuse_nothing(whole, weights, tmp_path):
    state = load_checkpoint(weights)
    state["state_dict"]["last.bias"] += 1
    torch.save(state, tmp_path / "other.pth")
    _, folder = whole
    other = search(
        tmp_path / "other", tmp_path / "other.pth", folder=str(folder / "search"), storage=None
    )
    values = [one["fitness"] for one in other["evaluations"]]
    before = {one["digits"]: one["fitness"] for one in whole[0]["evaluations"]}
    assert all(
        value - before[one["digits"]] == pytest.approx(1, abs=1e-5)
        for value, one in zip(values, other["evaluations"], strict=True)
        if one["digits"] in before
    )
    search(folder, weights, storage=None)  # the report of the first weights again


def worker(tmp_path, weights, folder, **options):
    args = [tmp_path, weights, folder, json.dumps(options)]
    command = [sys.executable, "-m", "tests.nas.worker", *map(str, args)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # so that sums round alike
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **threads}, **output)


def test_a_killed_search_goes_on_and_ends_alike(whole, weights, tmp_path):
    first = worker(tmp_path / "a", weights, tmp_path / "search", kill_after=5)
    first.communicate()
    assert first.returncode == -9
    assert len(records(tmp_path / "search")) == 5
    start = time.monotonic()
    assert search(tmp_path, weights, storage=None) == whole[0]
    assert time.monotonic() - start < 300  # its signs of life were not waited for
    keys = [record["fingerprint"] for record in records(tmp_path / "search")]
    assert len(set(keys)) == len(keys)


def test_two_workers_share_the_work(whole, weights, tmp_path):
    other = worker(tmp_path / "a", weights, tmp_path / "search", delay=0.3)
    while not records(tmp_path / "search"):
        assert other.poll() is None, other.stdout.read().decode()[-2000:]
        time.sleep(0.05)
    assert search(tmp_path, weights, storage=None) == whole[0]
    assert other.wait() == 0, other.stdout.read().decode()[-2000:]
    assert result(tmp_path / "search") == whole[0]
    found = records(tmp_path / "search")
    assert len({record["fingerprint"] for record in found}) == len(found)
    assert len({record["worker"]["process"] for record in found}) == 2


def test_a_failing_candidate_is_recorded_and_left_out(whole, weights, tmp_path, monkeypatch):
    bad = whole[0]["evaluations"][2]["digits"]
    path = SearchSpace(SPACE).path(SearchSpace(SPACE).parse(bad))
    plain = CandidateEvaluator._predict

    def predict(self, judge):
        blocks = [*self.model.backbone.blocks, *self.model.head]
        if [block.choice for block in blocks] == list(path.values()):
            raise RuntimeError("out of memory")
        return plain(self, judge)

    monkeypatch.setattr(CandidateEvaluator, "_predict", predict)
    content = search(tmp_path, weights, storage=None)
    failed = [one for one in content["evaluations"] if one["fitness"] is None]
    assert [one["digits"] for one in failed] == [bad]
    record = next(r for r in records(tmp_path / "search") if "error" in r)
    assert "RuntimeError: out of memory" in record["error"]
    assert content["models"]


def test_a_search_in_which_all_fail_says_so(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(CandidateEvaluator, "_predict", lambda self, judge: 1 / 0)
    with pytest.raises(RuntimeError, match="every candidate of the search failed"):
        search(tmp_path, weights, cycles=1)


def test_evaluations_do_not_depend_on_their_order(whole, weights, tmp_path):
    content = search(tmp_path, weights, "RandomSearchLoop", candidates=36, seed=11)
    here = {one["digits"]: one["fitness"] for one in content["evaluations"]}
    there = {one["digits"]: one["fitness"] for one in whole[0]["evaluations"]}
    common = here.keys() & there.keys()
    assert len(common) > 5
    assert all(here[digits] == there[digits] for digits in common)


def test_random_search_keeps_the_best(weights, tmp_path):
    content = search(tmp_path, weights, "RandomSearchLoop", candidates=8, top_k=2)
    fitness = {one["digits"]: one["fitness"] for one in content["evaluations"]}
    assert len(fitness) == 8
    best = sorted(fitness, key=fitness.get, reverse=True)[:2]
    assert [model["digits"] for model in content["models"]] == best


def test_evolution_goes_on_from_the_best(weights, tmp_path):
    options = {"generations": 3, "population": 6, "parents": 2, "mutations": 2, "crossovers": 2}
    content = search(tmp_path, weights, "EvolutionSearchLoop", **options)
    fitness = [one["fitness"] for one in content["evaluations"]]
    assert len(fitness) == len({one["digits"] for one in content["evaluations"]}) == 18
    assert (
        content["models"][0]["digits"] == content["evaluations"][int(np.argmax(fitness))]["digits"]
    )


class SmallSpace:
    """Stands in for a loop: one architecture is allowed."""

    constraints = {"macs": (None, 1)}

    def __init__(self):
        self.space = SearchSpace([{"name": "a", "size": 2, "choices": ["x", "y"], "key": "k"}])

    def allowed(self, arch):
        return arch == (1, 1)


def test_a_search_ends_when_nothing_new_is_allowed(monkeypatch):
    monkeypatch.setattr("mmpanoptic.nas.loops.MAX_TRIES", 50)
    loop, rng, known = SmallSpace(), np.random.RandomState(0), set()
    assert EvolutionSearchLoop.draw(loop, rng, lambda: loop.space.sample(rng), 1, known) == [(1, 1)]
    with pytest.raises(RuntimeError, match="outside of the constraints"):
        EvolutionSearchLoop.draw(loop, rng, lambda: loop.space.sample(rng), 1, known)


def test_an_unknown_metric_is_an_error(weights, tmp_path):
    with pytest.raises(ValueError, match=r"no metric is called 'mIoU'; there are toy/PQ"):
        search(tmp_path, weights, fitness="mIoU")


@pytest.mark.parametrize(
    ("loop", "options"),
    [
        ("PathPrioritySearchLoop", {"scorer": "mean"}),
        ("PathPrioritySearchLoop", {"constraints": {"macs": (None, 1)}}),
        ("RandomSearchLoop", {"candidates": 0}),
        ("EvolutionSearchLoop", {"population": 3}),
    ],
)
def test_wrong_options_are_an_error(weights, tmp_path, loop, options):
    with pytest.raises(ValueError, match=r"scorer|cost=|candidates|population"):
        search(tmp_path, weights, loop, **options)


def test_a_search_without_weights_or_data_is_an_error(weights, tmp_path):
    cfg = search_config(tmp_path / "a", weights)
    cfg.load_from = None
    with pytest.raises(ValueError, match="load_from=FILE"):
        train(cfg)
    cfg = search_config(tmp_path / "b", weights)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    with pytest.raises(ValueError, match="judges candidates by val_dataloader"):
        train(cfg)


def test_a_missing_base_of_the_export_is_found_before_the_search(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="export_configs"):
        search(tmp_path, weights, export_configs={"retrain": "nowhere.py"})


def test_weights_that_lack_a_part_are_an_error(weights, tmp_path):
    from mmpanoptic.checkpoints.loading import CheckpointError

    state = load_checkpoint(weights)
    state["state_dict"].pop("last.bias")
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"last\.bias is missing"):
        search(tmp_path, tmp_path / "cut.pth")


def test_a_strong_penalty_makes_the_ridge_scores_small(weights, tmp_path):
    options = {"scorer": "ridge", "cycles": 2, "folder": str(tmp_path / "search")}
    weak, strong = (
        search(tmp_path, weights, ridge_penalty=penalty, **options) for penalty in (1e-3, 1e6)
    )
    largest = [max(abs(v) for row in one["scores"] for v in row) for one in (weak, strong)]
    assert largest[1] < 1e-3 * largest[0]


def test_of_equal_choices_the_last_is_taken(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mmpanoptic.nas.loops.rank_scores",
        lambda space, history: [np.zeros(count) for count in space.num_choices],
    )
    content = search(tmp_path, weights, strict_legacy_ties=False, cycles=1)
    assert content["models"][0]["digits"][:3] == "111"


def test_signs_of_life_come_as_often_as_the_option_says(weights, tmp_path, monkeypatch):
    from mmpanoptic.nas import search_loop

    intervals, plain = [], search_loop.open_storage
    monkeypatch.setattr(
        search_loop,
        "open_storage",
        lambda url, seconds: intervals.append(seconds) or plain(url, seconds),
    )
    search(tmp_path, weights, heartbeat_seconds=33, cycles=1)
    assert intervals == [33]


def test_records_of_an_earlier_version_are_refused(weights, tmp_path):
    (tmp_path / "search" / "records").mkdir(parents=True)
    with pytest.raises(ValueError, match="evaluations of an earlier version"):
        search(tmp_path, weights)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_mutations_change_as_many_decisions_as_the_probability_says(weights, tmp_path, probability):
    runner = PanopticRunner.from_cfg(
        search_config(tmp_path, weights, "EvolutionSearchLoop", mutation_prob=probability)
    )
    parent = (0, 0, 0, 0, 0)
    rng = np.random.RandomState(0)
    born = [runner.train_loop._mutate(rng, [parent]) for _ in range(60)]
    changed = np.mean([np.not_equal(one, parent) for one in born], 0)
    expected = [probability * (1 - 1 / count) for count in (2, 2, 2, 3, 3)]
    np.testing.assert_allclose(changed, expected, atol=0.2)
