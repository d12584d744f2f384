"""Searches with Optuna's samplers: objectives, constraints, pruning."""

import pytest

from mmpanoptic.nas import search_loop
from mmpanoptic.nas.cost import CostTable
from mmpanoptic.nas.evaluation import CandidateEvaluator
from mmpanoptic.registry import METRICS
from tests.engine.toy import train
from tests.nas.test_loops import result, search, weights  # noqa: F401 - the trained supernet
from tests.nas.toy import ToyScore, search_config


@METRICS.register_module()
class StrictToyScore(ToyScore):
    """Refuses predictions that are missing, as those of panoptic quality do."""

    def evaluate(self, size):
        assert len(self.results) == size, f"{size - len(self.results)} predictions are missing"
        return super().evaluate(size)


TPE = {"type": "TPESampler"}
NSGA = {"type": "NSGAIISampler", "population_size": 4}


@pytest.fixture
def costs(monkeypatch):
    """Every choice costs its number."""

    def make_costs(space, model_cfg, input_size):
        table = CostTable(space)
        for count in space.num_choices:
            table.add_decision("all", macs=[float(i) for i in range(count)])
        return table

    monkeypatch.setattr(search_loop, "make_costs", make_costs)
    return {"input_size": (32, 32)}


def loop(work_dir, weights, **options):  # noqa: F811
    return search(work_dir, weights, "SamplerSearchLoop", **options)


@pytest.mark.parametrize("sampler", [NSGA, {**NSGA, "type": "NSGAIIISampler"}, TPE])
def test_several_objectives_give_a_front(weights, tmp_path, costs, sampler):  # noqa: F811
    found = loop(
        tmp_path, weights, sampler=sampler, candidates=10, objectives=["macs"], cost=costs, top_k=9
    )
    rows = {one["digits"]: (one["fitness"], one["cost"]["macs"]) for one in found["evaluations"]}
    assert len(rows) == 10
    front = {
        digits
        for digits, (fit, cost) in rows.items()
        if not any((f >= fit and c <= cost) and (f, c) != (fit, cost) for f, c in rows.values())
    }
    assert {model["digits"] for model in found["models"]} == front
    assert set(found["pareto"]["macs"]) == front
    assert (tmp_path / "search" / "pareto_macs.png").is_file()
    assert (tmp_path / "search" / "pareto_macs.html").is_file()


def test_candidates_outside_of_the_constraints_are_not_evaluated(weights, tmp_path, costs):  # noqa: F811
    options = {"cost": costs, "constraints": {"macs": (2, 3)}, "candidates": 8}
    found = loop(tmp_path, weights, sampler=TPE, **options)
    assert len(found["evaluations"]) == 8
    assert {one["cost"]["macs"] for one in found["evaluations"]} <= {2.0, 3.0}


def test_a_search_that_is_stopped_goes_on_alike(weights, tmp_path, monkeypatch):  # noqa: F811
    whole = loop(tmp_path / "whole", weights, sampler=TPE, candidates=12)
    plain, count = CandidateEvaluator.__call__, []

    def stop(self, *args):
        count.append(1)
        if len(count) == 6:
            raise KeyboardInterrupt
        return plain(self, *args)

    monkeypatch.setattr(CandidateEvaluator, "__call__", stop)
    options = {"sampler": TPE, "candidates": 12, "storage": None}
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path / "cut", weights, **options)
    assert loop(tmp_path / "cut", weights, **options) == whole
    assert len(count) == 13


PRUNERS = [
    {"type": "MedianPruner", "n_startup_trials": 2},
    {"type": "SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 2},
]


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda pruner: pruner["type"])
def test_bad_candidates_are_given_up_on_a_part_of_the_images(weights, tmp_path, pruner):  # noqa: F811
    options = {"sampler": {"type": "RandomSampler"}, "candidates": 12}
    options |= {"pruner": pruner, "checks": [0.5]}
    plain = loop(tmp_path / "a", weights, sampler={"type": "RandomSampler"}, candidates=12)
    cfg = search_config(tmp_path / "b", weights, "SamplerSearchLoop", **options)
    cfg.val_evaluator = {"type": "StrictToyScore"}
    train(cfg)
    found = result(tmp_path / "b" / "search")
    whole = {one["digits"]: one["fitness"] for one in plain["evaluations"]}
    given_up = [one for one in found["evaluations"] if one["fitness"] is None]
    assert 1 <= len(given_up) < 12
    rest = [one for one in found["evaluations"] if one["fitness"] is not None]
    assert all(one["fitness"] == whole[one["digits"]] for one in rest)  # unchanged by the checks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": {"type": "TPE"}}, "TPESampler"),
        ({"sampler": {"type": "TPESampler", "seed": 1}}, "set seed there"),
        ({"sampler": TPE, "candidates": 0}, "candidates must be"),
        ({"sampler": TPE, "objectives": ["macs"]}, "objectives need cost"),
        ({"sampler": TPE, "checks": [0.5]}, "belong together"),
        ({"sampler": TPE, "checks": [2], "pruner": {"type": "MedianPruner"}}, "between 0 and 1"),
    ],
)
def test_wrong_options_are_an_error(weights, tmp_path, options, words):  # noqa: F811
    with pytest.raises(ValueError, match=words):
        train(search_config(tmp_path, weights, "SamplerSearchLoop", **options))
