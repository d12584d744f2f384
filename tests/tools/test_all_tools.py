"""What holds for every tool, found by walking the folder."""

import argparse
import json
import subprocess
import sys

import pytest

from mmpanoptic import cli

from .load_tool import TOOLS, load_tool

NAMES = sorted(
    path.relative_to(TOOLS).as_posix()
    for path in TOOLS.rglob("*.py")
    if path.parent.name != "parts"
)
each_tool = pytest.mark.parametrize("name", NAMES)

READ_NOTHING = {
    "dataset_converters/shapes.py",
    "dev/check_bulk_inference.py",
    "dev/demo.py",
    "dev/gpu_check.py",
    "dev/search_demo.py",
    "dev/test_matrix.py",
    "dev/training_memory.py",
    "dev/weights_page.py",
}
READ_ON_REQUEST = {
    "weights.py": ["missing"],
    "analysis_tools/print_config.py": ["missing"],
    "dev/model_costs.py": ["missing"],
    "dev/scale_model.py": ["--constants", "missing"],
    "analysis_tools/benchmark_parts.py": ["missing"],
    "analysis_tools/benchmark_curves.py": ["missing"],
    "analysis_tools/benchmark_peers.py": ["missing"],
    "dev/draw_benchmarks.py": ["--curves", "missing"],
    "dev/write_benchmarks.py": ["missing"],
    "analysis_tools/draw_amwc.py": ["--costs", "missing"],
    "infer.py": ["missing", "missing", "missing"],
}
"""Tools whose arguments are optional, or one list, and further ones that name what is not there."""
HEAVY = ("torch", "mmengine", "torchvision", "mmcv", "mmdet", "mmseg", "matplotlib", "pycocotools")
HELP = """
import contextlib, io, json, sys, time
from tests.tools.load_tool import load_tool
found = {}
for name in json.loads(sys.argv[1]):
    start, text = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(text):
        status = load_tool(name).main(["--help"])
    heavy = sorted(set(json.loads(sys.argv[2])) & set(sys.modules))
    found[name] = (status, text.getvalue(), heavy)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def helps():
    """Status, text and heavy modules of every ``--help``, in one new process."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(NAMES), json.dumps(HEAVY)],
        cwd=TOOLS.parent,
        capture_output=True,
        text=True,
        timeout=3 * len(NAMES),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@each_tool
def test_help_shows_examples_without_heavy_imports(helps, name):
    status, text, heavy = helps[name]
    assert status == 0
    assert "examples:\n  " in text
    assert "--debug" in text
    assert heavy == []


def needed(parser, value="missing"):
    """Make up the arguments that a parser needs; those that name something get ``value``."""
    groups = [group for group in parser._mutually_exclusive_groups if group.required]
    optional = {action for group in groups for action in group._group_actions[1:]}
    first = {group._group_actions[0] for group in groups}
    for action in parser._actions:
        positional = not action.option_strings
        wanted = action.nargs not in ("*", "?") if positional else action.required
        if (not wanted and action not in first) or action in optional:
            continue
        if not positional:
            yield action.option_strings[0]
        count = action.nargs if isinstance(action.nargs, int) else 1
        yield from [_value_of(action, value)] * count


def _value_of(action, value):
    if action.choices:
        return next(iter(action.choices))
    try:
        (action.type or str)(value)
    except (ValueError, argparse.ArgumentTypeError):
        return "7"
    return value


def arguments_of(tool):
    return list(needed(tool.build_parser()))


@each_tool
def test_an_unknown_option_is_status_2_and_one_line(name, capsys):
    tool = load_tool(name)
    assert tool.main([*arguments_of(tool), "--nonsense"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: unknown argument --nonsense")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in NAMES if arguments_of(load_tool(name))])
def test_a_missing_argument_is_status_2_and_one_line(name, capsys):
    assert load_tool(name).main([]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert " required" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name not in READ_NOTHING])
def test_a_missing_file_is_one_message_and_leaves_nothing(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool = load_tool(name)
    status = tool.main([*arguments_of(tool), *READ_ON_REQUEST.get(name, [])])
    err = capsys.readouterr().err
    assert status in (1, 2)
    assert "\nerror: " in f"\n{err}"  # a progress bar may stand before it
    assert "missing" in err
    assert "not foreseen" not in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def end_with(error, tool, monkeypatch):
    def run(args):
        yield "begun"
        raise error

    monkeypatch.setattr(tool, "main", tool.main._replace(run=run))


@each_tool
def test_ctrl_c_is_status_130_and_one_line(name, capsys, monkeypatch):
    tool = load_tool(name)
    end_with(KeyboardInterrupt(), tool, monkeypatch)
    assert tool.main(arguments_of(tool)) == 130
    out, err = capsys.readouterr()
    assert out == "begun\n"
    assert err.startswith("stopped")
    assert err.count("\n") == 1


@each_tool
def test_debug_shows_the_traceback(name, capsys, monkeypatch):
    tool = load_tool(name)
    end_with(ValueError("a bad value"), tool, monkeypatch)
    assert tool.main([*arguments_of(tool), "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error: a bad value\n")


@each_tool
def test_common_arguments_are_those_of_the_command_line(name):
    """What means the same has one name and one kind of value."""
    known = {flag: settings for flag, settings in cli.COMMON.values() if flag.startswith("--")}
    known.pop("--config")  # an option of converters, positional elsewhere
    for action in load_tool(name).build_parser()._actions:
        for flag in set(action.option_strings) & known.keys():
            settings = known[flag]
            assert action.type == settings.get("type") or name == "dataset_converters/shapes.py"
            assert type(action).__name__ != "_StoreTrueAction" or (
                settings.get("action") == "store_true"
            )
