"""The next commands are called as the user called this one."""

import shlex
import sys
from pathlib import Path

import pytest

from mmpanoptic import cli
from mmpanoptic.commands import find
from mmpanoptic.commands.dataset_converters.own_data import way_of_calling
from mmpanoptic.datasets.converters.next_commands import describe_commands


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("/usr/bin/mmpanoptic", ["mmpanoptic"]),
        ("C:/bin/mmpanoptic.exe", ["mmpanoptic"]),
        ("/site-packages/mmpanoptic/__main__.py", ["python", "-m", "mmpanoptic"]),
    ],
)
def test_a_wheel_names_its_command(monkeypatch, program, words):
    monkeypatch.setattr(sys, "argv", [program, "convert", "own_data"])
    text = describe_commands(way_of_calling(), Path("data/own"), Path("photos"), ["train", "val"])
    calls = [shlex.split(line) for line in text.splitlines()[1:]]
    assert [call[: len(words)] for call in calls] == [words] * 4
    assert [find(call[len(words) :])[1] for call in calls] == [1] * 4
    assert ".py" not in text


@pytest.mark.parametrize("program", ["tools/dataset_converters/own_data.py", "pytest/__main__.py"])
def test_a_clone_names_its_scripts(monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program])
    text = describe_commands(way_of_calling(), Path("data/own"), Path("photos"), ["train"])
    for line in text.splitlines()[2:]:
        word, script = shlex.split(line)[:2]
        assert word == "python"
        assert (cli.tools_folder() / Path(script).name).is_file() or "check.py" in script
