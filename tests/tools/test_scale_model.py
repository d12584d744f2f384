"""The cost model on paper."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mmpanoptic import cli
from mmpanoptic.apis import get_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    path = ROOT / "tools" / "dev" / "scale_model.py"
    spec = importlib.util.spec_from_file_location("scale_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def content(tool):
    return json.loads(tool.CONSTANTS.read_text())


@pytest.fixture
def constants(tool, content):
    quiet = ["step_spread=0", "loader_spread=0", "gpu_hours_between_failures=1e12"]
    return tool.read_constants(content, quiet)


def model(tool, **changes):
    known = {"name": "x", "images": 3_600_000, "flop": 1e12, "parameters": 1000}
    return tool.Model(**{**known, "loader_seconds": 0.0, **changes})


def test_the_page_shows_what_the_constants_give(tool, content):
    costs = json.loads(tool.COSTS.read_text())
    models = [tool.model_of(entry, costs) for entry in content["schedules"]]
    expected = tool.tables(models, tool.read_constants(content), tool.GPUS)
    page = tool.PAGE.read_text(encoding="utf-8")
    assert page.split(tool.BEGIN)[1].split(tool.END)[0].strip() == expected


def test_schedules_are_those_of_the_configs(content):
    for entry in content["schedules"]:
        cfg = get_config(entry["config"])
        assert cfg.max_iters == entry["iterations"]
        processes, images = entry["config"].split("_")[2].split("-")[0].split("xb")
        assert int(processes) * int(images) == entry["batch"]


def test_a_training_without_waits_is_its_operations(tool, constants):
    rate = constants["gpu_tflops"] * 1e12 * constants["gpu_utilisation"]
    found = tool.outcome(model(tool), constants, 1)
    assert found.hours == pytest.approx(3_600_000 * 1e12 / rate / 3600, rel=1e-3)
    assert found.dollars == pytest.approx(found.hours * constants["dollars_per_gpu_hour"])
    assert (found.data_share, found.straggler_share) == (0, 0)
    more = tool.outcome(model(tool), constants, 8)
    assert more.hours == pytest.approx(found.hours / 8, rel=1e-3)


def test_loaders_that_are_too_slow_set_the_pace(tool, constants):
    constants |= {"loaders_per_gpu": 2.0, "images_per_gpu": 1.0}
    slow = model(tool, loader_seconds=1.0, images=7200)
    found = tool.outcome(slow, constants, 1)
    assert found.hours == pytest.approx(1.0, rel=0.02)  # two images a second
    assert found.data_share > 0.9
    assert "loaders" in found.limit
    assert found.loaders > 2


def test_the_slowest_of_many_is_waited_for(tool, constants):
    constants["step_spread"] = 0.1
    shares = [tool.outcome(model(tool), constants, gpus).straggler_share for gpus in (1, 8, 64)]
    assert shares[0] == 0
    assert 0 < shares[1] < shares[2]


def test_a_slow_network_binds_between_nodes_only(tool, constants):
    constants["network_gbps"] = 0.1
    large = model(tool, parameters=50_000_000)
    assert tool.outcome(large, constants, 8).network_share < 0.2
    found = tool.outcome(large, constants, 16)
    assert "network" in found.limit
    sent = 4 * 50e6 * 2 * (1 - 1 / 2) * 8 / 0.1e9
    compute = 1e12 * 2 / (constants["gpu_tflops"] * 1e12 * constants["gpu_utilisation"])
    exposed = tool.exposed_exchange(large, constants, 16, compute)
    assert exposed == pytest.approx(sent - 2 / 3 * compute, rel=0.01)


def test_storage_slows_down_what_reads_too_much(tool, constants):
    free = tool.outcome(model(tool), constants, 64)
    constants["storage_gbps"] = free.read_gbps / 2
    bound = tool.outcome(model(tool), constants, 64)
    assert bound.hours == pytest.approx(2 * free.hours, rel=1e-6)
    assert bound.limit == "storage"


def test_failures_cost_half_an_interval_and_a_restart(tool, constants):
    constants["gpu_hours_between_failures"] = 1000.0
    few, many = (tool.restart_factor(model(tool), constants, gpus) for gpus in (8, 512))
    assert 1 < few < many < 1.1


def test_a_wrong_constant_is_named(tool, content):
    for change, text in (("gpus=3", "the constants are"), ("prefetch=many", "no number")):
        with pytest.raises(cli.UsageError, match=text):
            tool.read_constants(content, [change])
