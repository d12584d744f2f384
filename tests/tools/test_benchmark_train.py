import json

import pytest

from tests.apis.tiny_model import CONFIG

TOOL = "analysis_tools/benchmark_train.py"
SMALL = ["--size", 64, 96, "--batch-size", 2, "--iters", 1, "--warmup", 1, "--device", "cpu"]


def test_every_switch_is_timed_alone_and_with_the_others(run_tool):
    options = ["--channels-last", "--amp", "bf16", "--json", "t.json", "--threads", 1]
    done = run_tool(TOOL, CONFIG, *SMALL, *options)
    content = json.loads((run_tool.folder / "t.json").read_text())
    assert [row["switches"] for row in content["figures"]] == [
        {},
        {"channels_last": True},
        {"amp": "bf16"},
        {"channels_last": True, "amp": "bf16"},
    ]
    for row in content["figures"]:
        assert row["train"] > 0
        assert row["inference"] > row["train"]
    assert "channels_last + bf16" in done.stdout
    assert content["machine"]["threads"] == 1
    assert "nms" in content["machine"]["operators"]


def test_without_switches_there_is_one_row(run_tool):
    assert run_tool(TOOL, CONFIG, *SMALL).stdout.count("x\n") == 1


@pytest.mark.slow
def test_compiled_models_are_timed(run_tool):
    assert "compile" in run_tool(TOOL, CONFIG, *SMALL, "--compile").stdout


def test_errors_are_one_clear_message(run_tool):
    assert "error: there is no config" in run_tool(TOOL, "unknown", *SMALL, status=1).stderr
    assert (
        "--iters: must be a whole number of at least 1"
        in run_tool(TOOL, CONFIG, "--iters", 0, status=2).stderr
    )
