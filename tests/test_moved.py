"""Old import paths lead to where things are now."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mmpanoptic.moved import MOVED

PACKAGE = Path(__file__).parent.parent / "mmpanoptic"


@pytest.mark.parametrize("old", MOVED)
def test_old_paths_give_the_new_module_and_say_so(old):
    with pytest.warns(DeprecationWarning, match=f"mmpanoptic.{MOVED[old]} now"):
        module = importlib.import_module(f"mmpanoptic.{old}")
    assert module is importlib.import_module(f"mmpanoptic.{MOVED[old]}")
    assert module.__spec__.name == f"mmpanoptic.{MOVED[old]}"
    del sys.modules[f"mmpanoptic.{old}"]


def test_names_can_be_imported_from_old_paths():
    code = (
        "from mmpanoptic.utils.checkpoint import load_checkpoint, save_checkpoint\n"
        "from mmpanoptic.engine.commands import run_command\n"
        "import mmpanoptic.models.layers.grid_edges, mmpanoptic.engine\n"
        "print(load_checkpoint.__module__, mmpanoptic.models.layers.grid_edges.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [
        "mmpanoptic.checkpoints.loading",
        "mmpanoptic.models.multicut.grid_edges",
    ]
    assert "<string>:1: DeprecationWarning: mmpanoptic.utils.checkpoint is" in done.stderr


def test_other_absent_modules_stay_absent():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        importlib.import_module("mmpanoptic.no_such_module")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_the_package_itself_takes_the_new_paths(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not {name.removeprefix("mmpanoptic.") for name in imported} & set(MOVED)
