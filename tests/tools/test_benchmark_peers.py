"""Peers run in their own environment, in turn with ours; what is absent or disagrees is told."""

import json
import sys
from pathlib import Path

import pytest

from mmpanoptic.commands.analysis_tools import benchmark_peers as tool

NAME = "analysis_tools/benchmark_peers.py"
SMALL = ("--images", 2, "--size", 48, 64, "--repeats", 1)
ROOT = Path(__file__).resolve().parents[2]


def make_peer(folder, name, code):
    """Make an interpreter that finds a package of this name in front of all others."""
    package = folder / "site" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{folder / "site"}:{ROOT}" exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return python


def test_panopticapi_agrees_and_its_figures_are_written(run_tool, tmp_path):
    pytest.importorskip("panopticapi", reason="requirements/judges.txt is not installed")
    out = tmp_path / "peers.json"
    done = run_tool(NAME, "panopticapi", *SMALL, "--json", out)
    assert "the results agree" in done.stdout
    (figure,) = json.loads(out.read_text())["peers"]
    seconds = figure["medians"]
    assert figure["ratio"] == pytest.approx(seconds["peer"]["seconds"] / seconds["ours"]["seconds"])
    assert seconds["ours"]["cpu_seconds"] > 0


def test_an_absent_peer_is_one_line(run_tool, tmp_path):
    done = run_tool(NAME, "detectron2", *SMALL)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("detectron2: not installed in")]
    assert len(lines) == 2


def test_a_peer_that_fails_is_named_with_its_last_line(run_tool, tmp_path):
    python = make_peer(tmp_path, "hotcoco", "")
    done = run_tool(NAME, "hotcoco", *SMALL, "--python", python, status=1)
    assert "hotcoco: ModuleNotFoundError" in done.stderr


def test_a_peer_with_another_result_is_an_error(run_tool, tmp_path):
    python = make_peer(tmp_path, "hotcoco", "")
    (tmp_path / "site" / "hotcoco" / "panoptic.py").write_text(
        "def pq_compute(*paths):\n"
        "    group = {'pq': 0.5, 'sq': 0.5, 'rq': 1.0, 'n': 3}\n"
        "    return {name: group for name in ('All', 'Things', 'Stuff')}\n"
    )
    done = run_tool(NAME, "hotcoco", *SMALL, "--python", python, status=1)
    assert "hotcoco: the results disagree: All pq is 0.5, ours" in done.stderr


def test_targets_are_compared_bit_by_bit(tmp_path):
    """The published generator's interface around our re-statement of its procedure."""
    projects = tmp_path / "site" / "detectron2" / "projects" / "panoptic_deeplab"
    python = make_peer(tmp_path, "detectron2", "")
    projects.mkdir(parents=True)
    (projects / "target_generator.py").write_text(
        "from tests.reference.panoptic_deeplab import make_targets\n"
        "class PanopticDeepLabTargetGenerator:\n"
        "    def __init__(self, ignore_label, thing_ids, sigma, **options):\n"
        "        assert ignore_label == 255\n"
        "        self.settings = (thing_ids, sigma), options\n"
        "    def __call__(self, ids, segments):\n"
        "        positions, options = self.settings\n"
        "        found = make_targets(ids, segments, *positions, **options)\n"
        "        plain = {'semantic': 'sem_seg', 'semantic_weight': 'sem_seg_weights',\n"
        "                 'center_weight': 'center_weights', 'offset_weight': 'offset_weights'}\n"
        "        return {plain.get(name, name): value for name, value in found.items()}\n"
    )
    folder = tmp_path / "files"
    folder.mkdir()
    tool.write_inputs(folder, 2, 48, 64)
    figure = tool.measure("detectron2", str(python), folder, 1)
    assert figure["cpu_ratio"] > 0
    with pytest.raises(AssertionError, match="targets offset is 'a', ours 'b'"):
        tool.compare({"targets": {"offset": "a"}}, {"targets": {"offset": "b"}})


def test_wrong_words_are_refused(run_tool, tmp_path):
    done = run_tool(NAME, "hotcoca", status=2)
    assert "unknown peer hotcoca" in done.stderr
    done = run_tool(NAME, "--python", tmp_path / "nobody", status=2)
    assert "is no Python interpreter" in done.stderr
