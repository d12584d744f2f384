from __future__ import annotations

import json

import pytest

from tests.tools.load_tool import load_tool

TOOL = "analysis_tools/benchmark_parts.py"
tool = load_tool(TOOL)

PART = '''
"""Sum of squares."""
import numpy as np

DESCRIPTION = "Vectorised sum."
BASELINE = "a Python loop."
{cases}

def make_inputs(size="default", offset=0):
    return {{"values": np.arange({{"default": 200000, "small": 2000}}[size]) + offset}}

def baseline(inputs):
    total = 0
    for value in inputs["values"].tolist():
        total += value * value
    return total

def ours(inputs):
    filler = np.ones(1 << 22)
    return int((inputs["values"] ** 2).sum() + filler[0] - 1) + {error}

def check(expected, got):
    if expected != got:
        raise AssertionError(f"{{expected}} != {{got}}")
'''


@pytest.fixture
def parts(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "squares.py").write_text(PART.format(cases="", error=0))
    (folder / "_helper.py").write_text("raise RuntimeError('helpers are no parts')")
    return folder


def test_times_a_part_and_writes_json(run_tool, parts):
    done = run_tool(
        TOOL,
        "squares",
        "--parts-folder",
        parts,
        "--json",
        "out.json",
        "--repeats",
        3,
        "--threads",
        1,
    )
    for text in ("squares", "ratio", "1 thread(s)", "a Python loop.", "numpy"):
        assert text in done.stdout
    content = json.loads((run_tool.folder / "out.json").read_text())
    part = content["parts"][0]
    assert content["threads"] == 1
    assert part["part"] == "squares"
    assert len(part["all_seconds"]["ours"]) == 3
    assert part["ratio"] == part["seconds"]["baseline"] / part["seconds"]["ours"]
    memory = part["peak_extra_mib"]["ours"]
    assert memory is None or 25 < memory < 60, "ours touches 32 MiB"


def test_cases_are_arguments_of_the_inputs(parts):
    (parts / "cased.py").write_text(PART.format(cases="CASES = {'high': {'offset': 9}}", error=0))
    module = tool.load_part("cased", parts / "cased.py")
    assert module.make_inputs("small", **module.CASES["high"])["values"][0] == 9
    figures = tool.measure("cased[high]", module, module.CASES["high"], "small", 1)
    assert figures["part"] == "cased[high]"
    assert "cased[high]" in tool.format_table([figures])


@pytest.mark.parametrize("error", ["1", "0 or False"])
def test_disagreeing_results_are_an_error(parts, error):
    text = PART.format(cases="", error=0).replace("+ 0", f"+ {error}")
    if error != "1":  # a check may also return False
        text = text.split("def check")[0] + "def check(expected, got):\n    return False\n"
    (parts / "wrong.py").write_text(text)
    module = tool.load_part("wrong", parts / "wrong.py")
    with pytest.raises(tool.PartError, match="part wrong: the results disagree"):
        tool.measure("wrong", module, {}, "small", 1)


def test_without_names_all_parts_run_and_failures_count(run_tool, parts):
    (parts / "aaa.py").write_text(PART.format(cases="", error=1))
    done = run_tool(TOOL, "--parts-folder", parts, "--inputs", "small", "--repeats", 1, status=1)
    assert "part aaa: the results disagree" in done.stderr
    assert "| squares" in done.stdout
    assert "| aaa" not in done.stdout


def test_unknown_and_incomplete_parts_are_named(parts):
    found = tool.find_parts(parts)
    assert list(found) == ["squares"]
    assert tool.select_parts(found, []) == found
    with pytest.raises(tool.PartError, match="unknown part cubes; there are: squares"):
        tool.select_parts(found, ["squares", "cubes"])
    (parts / "half.py").write_text("DESCRIPTION = 'x'")
    missing = "lacks BASELINE, make_inputs, baseline, ours, check"
    with pytest.raises(tool.PartError, match=missing):
        tool.load_part("half", parts / "half.py")


@pytest.mark.parametrize("option", ["--threads", "--repeats"])
def test_numbers_must_be_positive(run_tool, option):
    assert f"{option}: must be" in run_tool(TOOL, option, "0", status=2).stderr


@pytest.mark.parametrize("name", ["pq_memory", "pq_files", "open_annotations", "decode_png"])
def test_parts_for_files_agree_with_their_baselines(name):
    module = tool.load_part(name, tool.PARTS_FOLDER / f"{name}.py")
    for case, options in module.CASES.items():
        assert tool.measure(case, module, options, "small", 1)["ratio"] > 0


@pytest.mark.parametrize("name", ["pdl_grouping", "pdl_targets", "pdl_postprocess", "pdl_network"])
def test_panoptic_deeplab_parts_agree_with_their_baselines(name):
    module = tool.load_part(name, tool.PARTS_FOLDER / f"{name}.py")
    for case, options in module.CASES.items():
        assert tool.measure(case, module, options, "small", 1)["ratio"] > 0


@pytest.mark.parametrize(
    "name", ["amwc_cityscapes", "amwc_coco", "amwc_crop", "amwc_threads", "cops_post"]
)
def test_multiway_cut_parts_agree_with_their_baselines(name):
    module = tool.load_part(name, tool.PARTS_FOLDER / f"{name}.py")
    cases = getattr(module, "CASES", {"": {}})
    case, options = next(iter(cases.items()))
    assert tool.measure(case, module, options, "small", 1)["ratio"] > 0


def test_a_process_counts_with_its_children():
    before = tool.processor_time()
    module = tool.load_part("start", tool.PARTS_FOLDER / "start.py")
    assert module.ours(module.make_inputs(**module.CASES["check"])) == "usage:"
    assert tool.processor_time() - before > 0.01


def test_attention_path_agrees_with_its_baseline():
    module = tool.load_part("attention_path", tool.PARTS_FOLDER / "attention_path.py")
    assert tool.measure("", module, {}, "small", 1)["ratio"] > 0


def test_a_note_on_the_results_is_printed(parts):
    text = PART.format(cases="", error=0) + "def note(expected, got):\n    return f'sum {got}'\n"
    (parts / "noted.py").write_text(text)
    module = tool.load_part("noted", parts / "noted.py")
    figures = tool.measure("noted", module, {}, "small", 1)
    assert f"noted: sum {figures['note'].split()[1]}" in tool.format_table([figures])


@pytest.mark.parametrize("name", ["solov2_targets", "solov2_post"])
def test_solov2_parts_agree_with_their_baselines(name):
    module = tool.load_part(name, tool.PARTS_FOLDER / f"{name}.py")
    assert tool.measure(name, module, {}, "small", 1)["ratio"] > 0
