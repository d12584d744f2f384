"""The compiled solver is optional, and an old build of it is noticed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mmpanoptic.ops import amwc
from mmpanoptic.ops.amwc import compiled


@pytest.fixture
def fresh_loader():
    compiled.load_solver.cache_clear()
    yield
    compiled.load_solver.cache_clear()


def test_a_missing_solver_names_the_remedy(monkeypatch, fresh_loader):
    monkeypatch.setitem(sys.modules, f"{amwc.__name__}._solver", None)
    assert not amwc.is_available()
    with pytest.raises(amwc.SolverUnavailableError) as caught:
        amwc.solve_graph(np.zeros((1, 1)), [], [], None)
    for text in ("not built", "g++", "make venv", "pip install"):
        assert text in str(caught.value)


def test_without_the_solver_everything_else_can_be_imported():
    code = (
        "import sys; sys.modules['mmpanoptic.ops.amwc._solver'] = None\n"
        "import mmpanoptic.apis\n"
        "from mmpanoptic.ops import amwc\n"
        "assert not amwc.is_available()\n"
        "amwc.grid_edges((3, 4), [1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_build_carries_the_checksum_of_its_sources(fresh_loader, recwarn):
    assert amwc.is_available()
    assert compiled.source_checksum() == compiled.load_solver().SOURCES
    assert not [w for w in recwarn if "older than its sources" in str(w.message)]


def test_changed_sources_are_noticed(monkeypatch, fresh_loader, tmp_path):
    before = compiled.source_checksum()
    (tmp_path / "greedy.h").write_text("// changed")
    assert compiled.source_checksum(tmp_path) != before
    monkeypatch.setattr(compiled, "source_checksum", lambda: "00000000")
    with pytest.warns(RuntimeWarning, match=r"older than its sources.*make venv"):
        compiled.load_solver()


def test_an_installed_package_without_sources_is_not_called_old(
    monkeypatch, fresh_loader, tmp_path
):
    assert compiled.source_checksum(tmp_path) is None
    monkeypatch.setattr(compiled, "source_checksum", lambda: None)
    compiled.load_solver()
