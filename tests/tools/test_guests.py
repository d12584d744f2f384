"""Trainings of mask transformers: resumed exactly, killed, reported on; no average over flips."""

import json
import sys

import pytest
import torch

from mmpanoptic.apis import init_model
from mmpanoptic.checkpoints.loading import load_checkpoint, save_checkpoint
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.utils.cfg_options import parse_value
from tests.faults.runs import Run, is_whole

from .load_tool import TOOLS, load_tool

STEPS = 4
GUESTS = {
    "EoMT": (
        "eomt_tiny_1xb8-1k_shapes",
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


@pytest.mark.parametrize(("name", "head"), [("EoMT", None), ("Mask2Former of mmdet", "fill=True")])
def test_the_fusion_of_a_guest_is_tuned(name, head, run_tool, data, tmp_path):
    """Its config names no fusion head, or an option of one; every trial is a test with it."""
    config, *options = GUESTS[name]
    options += [f"data_root={data}", "num_workers=0", "test_dataloader.persistent_workers=False"]
    options.append("model.fusion_head=None" if head is None else f"model.fusion_head.{head}")
    torch.manual_seed(0)
    pairs = [one.split("=", 1) for one in options]
    values = {name: parse_value(text) for name, text in pairs}
    model = init_model(config, None, cfg_options=values)
    save_checkpoint({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "weights.pth")
    space = tmp_path / "space.py"
    space.write_text("space = {'model.fusion_head.score_thr': dict(choices=[0.0, 0.99])}\n")
    command = [config, tmp_path / "weights.pth", "--work-dir"]
    tune = ["--space", space, "--trials", "2", "--cfg-options", *options]
    out = run_tool("tune.py", *command, tmp_path / "run", *tune).stdout
    assert "2 trials, 0 failed" in out
    trials = json.loads((tmp_path / "run" / "tuning" / "tuning.json").read_text())["trials"]
    low = next(t for t in trials if t["params"]["model.fusion_head.score_thr"] == 0.0)
    options = [one for one in options if one != "model.fusion_head=None"]
    more = ["--cfg-options", *options, "model.fusion_head.score_thr=0.0"]
    run_tool("test.py", *command, tmp_path / "test", *more)
    metrics = json.loads(next((tmp_path / "test").glob("*/*.json")).read_text())
    keys = {key for key in metrics if key.startswith("coco_panoptic/")}
    assert keys
    assert {key: low["metrics"][key] for key in keys} == {key: metrics[key] for key in keys}
