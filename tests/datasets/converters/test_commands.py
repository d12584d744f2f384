"""What holds for every converter command."""

import subprocess
import sys

import pytest

from .tool import TOOLS, call

COMMANDS = sorted(path.stem for path in TOOLS.glob("*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name):
    status, text, _ = call(name, "--help")
    assert status == 0
    assert "examples:" in text


def test_a_command_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, str(TOOLS / "cityscapes.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "cityscapes.py data/cityscapes --nproc 8" in done.stdout
