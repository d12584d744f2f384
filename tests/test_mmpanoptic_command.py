"""``mmpanoptic COMMAND`` reaches what the scripts below ``tools/`` reach."""

import subprocess
import sys
from importlib import import_module

import pytest

from mmpanoptic import commands

from .tools.load_tool import TOOLS, load_script
from .tools.test_all_tools import NAMES

STAY = {"analysis_tools/benchmark_parts.py", "analysis_tools/benchmark_curves.py"}
"""Compares with the tests' reference code, so it needs a clone."""
DOORS = [name for name in NAMES if not name.startswith("dev/") and name not in STAY]


@pytest.mark.parametrize("name", DOORS)
def test_a_script_is_a_door_to_the_module_of_the_same_path(name):
    module = import_module("mmpanoptic.commands." + name.removesuffix(".py").replace("/", "."))
    assert load_script(name).main is module.main
    assert len((TOOLS / name).read_text().splitlines()) < 8


def test_every_command_of_the_overview_has_a_help(capsys):
    words = [[name] for name in commands.COMMANDS]
    words += [[group, name] for group in commands.GROUPS for name in commands.members(group)]
    for command in words:
        assert commands.main([*command, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: mmpanoptic {' '.join(command)} ")


def test_the_commands_are_those_of_the_scripts():
    reached = {module for module, _ in commands.COMMANDS.values()}
    reached |= {m for group in commands.GROUPS for m in commands.members(group).values()}
    alone = {"save_instances", "fuse_saved_instances"}
    scripts = {name.removesuffix(".py").replace("/", ".") for name in DOORS}
    assert scripts - alone <= reached


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["convert"], "convert what? one of: ade20k, "),
        (["convert", "cityscape"], "unknown convert command 'cityscape'; did you mean cityscapes?"),
        (["eval", "--json", "x"], "eval what? one of: cityscapes_instance, "),
        (["train"], "the following arguments are required: CONFIG; mmpanoptic train --help"),
        (["train", "x", "--amq"], "unknown argument --amq (did you mean --amp?)"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(words, message, capsys):
    assert commands.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_the_overview_names_every_command(capsys):
    assert commands.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in (*commands.COMMANDS, *commands.GROUPS))
    assert commands.main([]) == 2
    assert commands.main(["eval", "--help"]) == 0
    assert "panoptic" in capsys.readouterr().out


def test_the_module_runs_and_imports_nothing_heavy(tmp_path):
    code = "import sys; from mmpanoptic.commands import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert not {"torch", "mmengine", "mmcv", "cv2"} & set(done.split())
    command = [sys.executable, "-m", "mmpanoptic", "convert", "shapes", "out"]
    options = ["--train", "1", "--val", "1", "--size", "32", "48"]
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "out/annotations/panoptic_val.json").is_file()
