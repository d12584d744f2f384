"""The notebook runs from its first cell to its last one, in an empty folder."""

import json
import shlex
from pathlib import Path

import pytest

from mmpanoptic import commands

PATH = Path(__file__).parent.parent / "docs/tutorials/first_steps.ipynb"
CELLS = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_carries_no_outputs():
    assert all(not c["outputs"] and c["execution_count"] is None for c in CELLS if "outputs" in c)


def test_every_cell_runs(tmp_path, monkeypatch, capsys):
    """``!mmpanoptic ...`` is called in this process; what the installation does, the tests have."""
    monkeypatch.chdir(tmp_path)
    names = {}
    shown = []
    for text in CODE:
        if text.startswith("%pip install "):
            continue
        if text.startswith("!mmpanoptic "):
            assert commands.main(shlex.split(text)[1:]) == 0, text + capsys.readouterr().err
            continue
        *_, last = text.splitlines()
        exec(compile(text, "cell", "exec"), names)  # noqa: S102 - our own cells
        if last.isidentifier():  # what a notebook shows as a picture
            shown.append(names[last])
    assert [result._repr_png_()[:4] for result in shown] == [b"\x89PNG"] * 2
    assert names["nuclei"].names.count("nucleus") == 4
    assert all(Path(file).is_file() for file in names["files"])


@pytest.mark.parametrize("text", [text for text in CODE if text.startswith("%")])
def test_the_installation_names_what_it_installs(text):
    assert text == "%pip install --quiet torch mmpanoptic"
