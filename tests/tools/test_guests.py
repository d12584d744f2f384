"""Trainings of mask transformers: resumed exactly, killed, reported on; no average over flips."""

import sys

import pytest
import torch

from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from tests.faults.runs import Run, is_whole

from .load_tool import TOOLS, load_tool

STEPS = 4
GUESTS = {
    "EoMT": (
        "eomt_tiny_1xb8-600_shapes",
        "num_queries=8",
        "model.network.hidden_size=32",
        "model.network.train_num_points=64",
    ),
    "Mask2Former of mmdet": (
        "mask2former_r18-tiny_1xb8-800_shapes",
        "num_queries=8",
        "model.detector.train_cfg.num_points=64",
        "load_from=None",
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes of guests")
    generate_shapes(root, {"train": 6, "val": 2}, ShapesSettings(64, 64))
    return root


def arguments(name, data, work_dir, *more):
    config, *options = GUESTS[name]
    loaders = [f"{part}_dataloader.persistent_workers=False" for part in ("train", "val", "test")]
    options += [f"data_root={data}", f"max_iters={STEPS}", "warmup_iters=1", "batch_size=2"]
    options += ["num_workers=0", "checkpoint_interval=1", *loaders]
    line = (config, "--work-dir", work_dir, "--no-validate", "--seed", 3, *more)
    return [str(word) for word in (*line, "--cfg-options", *options)]


def train(*line):
    assert load_tool("train.py").main(arguments(*line)) == 0


def assert_same_end(one, other):
    states = [
        load_checkpoint(folder / f"iter_{STEPS}.pth")["state_dict"] for folder in (one, other)
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.fixture(scope="module", params=GUESTS)
def guest(request, data, tmp_path_factory):
    """A guest and the folder of a training that nothing disturbed."""
    if request.param == "EoMT":
        pytest.importorskip("transformers", reason="pip install 'mmpanoptic[transformers]'")
    whole = tmp_path_factory.mktemp("whole")
    train(request.param, data, whole)
    return request.param, whole


def test_a_resumed_training_ends_with_the_same_weights(guest, data, tmp_path):
    name, whole = guest
    train(name, data, tmp_path, "--resume", whole / "iter_2.pth")
    assert_same_end(tmp_path, whole)
    if name == "EoMT":
        state = load_checkpoint(whole / "iter_2.pth")["state_dict"]
        assert 0 < state["attn_mask_probs"].mean() < 1, "resumed in the midst of the annealing"


@pytest.mark.slow
@pytest.mark.parametrize("guest", ["EoMT"], indirect=True)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(guest, data, tmp_path):
    name, whole = guest
    line = arguments(name, data, tmp_path)
    with Run([sys.executable, TOOLS / "train.py", *line], cwd=tmp_path) as run:
        assert run.wait_for(lambda: (tmp_path / "iter_1.pth").is_file(), 300)
        run.process.kill()
        assert run.wait_until_gone(60) == []
    assert all(map(is_whole, tmp_path.glob("iter_*.pth")))
    train(name, data, tmp_path, "--resume")
    assert_same_end(tmp_path, whole)


@pytest.mark.parametrize("guest", ["Mask2Former of mmdet"], indirect=True)
def test_a_run_is_reported_on(guest, run_tool):
    _, whole = guest
    run_tool("analysis_tools/report.py", whole, "--out-dir", "report", "--nproc", 1)
    assert (run_tool.folder / "report" / "report.json").is_file()


def test_no_average_over_augmentations(guest, data, run_tool):
    name, whole = guest
    config, *options = GUESTS[name]
    line = ("test.py", config, whole / f"iter_{STEPS}.pth", "--tta", "--work-dir", "w")
    done = run_tool(*line, "--cfg-options", f"data_root={data}", *options, status=1)
    assert "MaskSetFusionHead cannot average over augmentations" in done.stderr
