import pickle

import pytest
import torch

from mmpanoptic.apis import init_model
from mmpanoptic.apis.conversion import model_of_config
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from tests.models.two_stage_builders import CONFIG as MODEL_FILE

TOOL = "model_converters/rap.py"
CONFIG = str(MODEL_FILE.with_name("panoptic-fpn_r18-tiny_1xb8-1k_shapes.py"))
OPTIONS = ("--config", CONFIG, "--cfg-options", "data_root=no such folder")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return init_model(CONFIG, device="cpu", cfg_options={"data_root": "no such folder"})


@pytest.fixture(scope="module")
def published(model):
    return RapKeyMap(model).to_published(model.state_dict())


def same(state, model):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_released_model_loads_after_conversion(run_tool, model, published):
    content = {
        "model": {f"module.{name}": value for name, value in published.items()},
        "iteration": 150000,
        "optimizer": {"state": {}},
        "scheduler": {"last_epoch": 150000},
    }
    content["model"]["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save(content, run_tool.folder / "R_18.pth")
    done = run_tool(TOOL, "R_18.pth", "ours.pth", *OPTIONS)
    assert f"{len(published)} tensors written to ours.pth" in done.stdout
    assert "1 tensors deliberately dropped\n  rpn.anchor_generator.cell_anchors.0" in done.stdout
    ours = init_model(CONFIG, "ours.pth", "cpu", {"data_root": "no such folder"})
    assert same(ours.state_dict(), model)


def test_there_and_back_again(run_tool, model, published):
    torch.save({"state_dict": model.state_dict(), "meta": {}}, run_tool.folder / "ours.pth")
    run_tool(TOOL, "ours.pth", "theirs.pth", "--to-published", *OPTIONS)
    theirs = load_checkpoint("theirs.pth", trust=True)["model"]
    assert theirs.keys() == published.keys()
    assert all(torch.equal(theirs[name], value) for name, value in published.items())


BOTTLENECK = (
    *OPTIONS,
    "model.backbone.depth=50",
    "model.neck.in_channels=[128,256,512,1024]",
)


def test_blobs_of_detectron_start_a_training(run_tool):
    """A backbone of one block per stage, as Detectron pickles ImageNet weights."""
    done = run_tool(TOOL, write_blobs(run_tool.folder), "start.pth", "--initial", *BOTTLENECK)
    assert "4 tensors deliberately dropped" in done.stdout
    state = load_checkpoint("start.pth")["state_dict"]
    assert {name.split(".")[0] for name in state} == {"backbone"}
    assert (state["backbone.layer1.0.bn1.running_var"] == 1).all()
    assert (state["backbone.layer1.0.bn1.weight"] == 3).all()


def write_blobs(folder):
    """Pickle what a Detectron file of the small backbone holds."""
    options = {
        "data_root": "no such folder",
        "model.backbone.depth": 50,
        "model.neck.in_channels": [128, 256, 512, 1024],
    }
    shapes = RapKeyMap(model_of_config(CONFIG, options)[0]).shapes
    blobs = {"fc1000_w": 0, "fc1000_b": 0, "pred_w": 0, "lr": 0}
    blobs = {name: torch.zeros(2).numpy() for name in blobs}
    for name, shape in shapes.items():
        parts = name.split(".")
        if parts[0] != "backbone" or "running" in parts[-1]:
            continue
        end = {"weight": "s", "bias": "b"}[parts[-1]]
        if parts[1] in ("conv1", "bn1"):
            blob = "conv1_w" if parts[1] == "conv1" else f"res_conv1_bn_{end}"
        else:
            place = f"res{int(parts[1][-1]) + 1}_{parts[2]}_"
            if parts[3] == "downsample":
                blob = place + ("branch1_w" if parts[4] == "0" else f"branch1_bn_{end}")
            else:
                letter = "abc"[int(parts[3][-1]) - 1]
                blob = place + f"branch2{letter}_" + ("w" if "conv" in parts[3] else f"bn_{end}")
        blobs[blob] = torch.full(shape, 3.0).numpy()
    path = folder / "X.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "MODEL: {}"}, 2))
    return path


def test_another_variant_is_refused(run_tool, published):
    torch.save({"model": published}, run_tool.folder / "x.pth")
    done = run_tool(TOOL, "x.pth", "ours.pth", *BOTTLENECK, status=1)
    assert "error: the checkpoint does not fit the model" in done.stderr
    assert not (run_tool.folder / "ours.pth").exists()


def test_ways_exclude_each_other(run_tool):
    done = run_tool(TOOL, "x", "y", "--to-published", "--new-classes", *OPTIONS, status=2)
    assert "no --new-classes, --drop or --initial" in done.stderr
    run_tool(TOOL, "x", "y", "--to-published", "--initial", *OPTIONS, status=2)
