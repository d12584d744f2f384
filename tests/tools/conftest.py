import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from tests.apis.tiny_model import write_checkpoint

from .load_tool import TOOLS, load_tool


@pytest.fixture
def run_tool(tmp_path, monkeypatch, capsys):
    """Run a tool's ``main`` in a folder with a space in its name; check the exit status."""
    folder = tmp_path / "some where"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(tool, *arguments, status=0):
        capsys.readouterr()
        try:
            code = load_tool(tool).main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = error.code
        out, err = capsys.readouterr()
        assert (code or 0) == status, out + err
        return SimpleNamespace(stdout=out, stderr=err)

    run.folder = folder
    return run


@pytest.fixture
def run_script(tmp_path):
    """Run a tool as a script in a new process, elsewhere."""
    folder = tmp_path / "else where"
    folder.mkdir()

    def run(tool, *arguments, status=0):
        env = {**os.environ, "PYTHONPATH": str(TOOLS.parent), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(TOOLS / tool), *map(str, arguments)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    run.folder = folder
    return run


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory):
    """A small shapes dataset."""
    root = tmp_path_factory.mktemp("shapes set")
    generate_shapes(root, {"train": 4, "val": 3}, ShapesSettings(96, 64))
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A checkpoint of the demo's model with random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("a checkpoint") / "weights.pth")
