"""The command that lists, explains, fetches and verifies published weights, and its page."""

import dataclasses
import io

import pytest
import torch

from mmpanoptic.checkpoints.weights import manifest
from tests.checkpoints.file_server import FileServer

from .load_tool import load_tool

TOOL = "weights.py"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home"))


@pytest.fixture
def served(monkeypatch):
    """An entry whose file a server on this machine has."""
    server = FileServer()
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(9)}, buffer)
    server.files["/a.pth"] = buffer.getvalue()
    entry = dataclasses.replace(
        manifest()["imagenet/resnet50"], id="test/a", url=(server.url("/a.pth"),), sha256=None
    )
    monkeypatch.setitem(manifest(), "test/a", entry)
    yield entry
    server.shutdown()
    server.server_close()


def test_list_shows_what_is_there(run_tool, served):
    assert "  here " not in run_tool(TOOL, "list", "test/").stdout
    run_tool(TOOL, "fetch", "test/a")
    assert "test/a" in run_tool(TOOL, "list").stdout
    line = run_tool(TOOL, "list", "test/").stdout
    assert "here" in line
    assert line.count("\n") == 1
    assert "no id begins with x" in run_tool(TOOL, "list", "x", status=1).stderr


def test_info_tells_everything(run_tool, served):
    told = run_tool(TOOL, "info", "test/a").stdout
    for part in ("mmpanoptic://test/a", served.url[0], "BSD-3-Clause", str(served.remote.path)):
        assert part in told
    assert "did you mean" in run_tool(TOOL, "info", "imagenet/resnet51", status=1).stderr


def test_fetch_takes_ids_addresses_and_configs(run_tool, served, tmp_path):
    told = run_tool(TOOL, "fetch", "test/a", served.url[0]).stdout
    assert f"mmpanoptic://test/a: {served.remote.path}" in told
    assert f"{served.url[0]}: " in told
    config = tmp_path / "config.py"
    config.write_text('load_from = "mmpanoptic://test/a"\ninitial_weights = "work_dirs/x.pth"\n')
    told = run_tool(TOOL, "fetch", "--config", config).stdout
    assert "mmpanoptic://test/a: " in told
    assert "work_dirs/x.pth is a file of yours" in told


def test_verify_finds_what_changed(run_tool, served):
    assert "no weights of the manifest" in run_tool(TOOL, "verify").stdout
    assert "not in the cache: test/a" in run_tool(TOOL, "verify", "test/a", status=1).stderr
    run_tool(TOOL, "fetch", "test/a")
    assert "test/a: sha256" in run_tool(TOOL, "verify").stdout
    served.remote.path.write_bytes(b"PK")
    done = run_tool(TOOL, "verify", status=1)
    assert "is not mmpanoptic://test/a" in done.stdout
    assert "1 of 1 files are damaged" in done.stderr
    run_tool(TOOL, "fetch", "test/a", "--again")
    run_tool(TOOL, "verify", "test/a")


@pytest.mark.parametrize(
    "arguments", [["fetch"], ["info"], ["list", "--again"], ["verify", "--config", "x"], ["x"]]
)
def test_wrong_arguments_are_refused(run_tool, arguments):
    run_tool(TOOL, *arguments, status=2)


def test_the_page_is_the_manifest():
    tool = load_tool("dev/weights_page.py")
    _, mark, rest = tool.PAGE.read_text(encoding="utf-8").partition(tool.MARK)
    assert mark
    assert rest == f"\n{tool.tables()}"
