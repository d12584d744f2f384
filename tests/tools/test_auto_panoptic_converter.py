"""The command that converts released Auto-Panoptic weights, on the miniature model."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.apis import init_model
from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS

TOOL = "model_converters/auto_panoptic.py"
CONFIG = Path(__file__).parents[2] / "configs/auto_panoptic/auto-panoptic_tiny_1xb8-500_shapes.py"
NO_DATA = ("--cfg-options", "data_root=no such folder")


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)
    model = MODELS.build(resolve_config(Config.fromfile(CONFIG)).model)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def published(model):
    """The miniature as the authors' code would store it."""
    state = {}
    key_map = AutoPanopticKeyMap(model)
    for name, value in model.state_dict().items():
        if "bbox_head.fc_cls" in name:
            value = value.roll(1, 0)
        elif "bbox_head.fc_reg" in name:
            value = torch.cat([torch.zeros_like(value[:4]), value])
        elif "mask_head.conv_logits" in name:
            value = torch.cat([torch.zeros_like(value[:1]), value])
        state["module." + key_map.published[name]] = value.clone()
    state["module.backbone.fpn.fpn_inner1.0.weight"] = torch.zeros(64, 16, 1, 1)
    state["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    return state


def test_a_panoptic_model_loads_after_conversion(run_tool, model, published):
    torch.save({"model": published, "iteration": 7, "scheduler": {}}, "autopanoptic.pth")
    done = run_tool(TOOL, "autopanoptic.pth", "ours.pth", "--config", CONFIG, *NO_DATA)
    assert f"{len(model.state_dict())} tensors written" in done.stdout
    assert "2 tensors deliberately dropped" in done.stdout
    ours = init_model(CONFIG, "ours.pth", "cpu", {"data_root": "no such folder"})
    for name, value in model.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_ours_becomes_a_released_one(run_tool, model, published):
    torch.save({"state_dict": model.state_dict()}, "ours.pth")
    run_tool(TOOL, "ours.pth", "theirs.pth", "--to-published", "--config", CONFIG, *NO_DATA)
    theirs = load_checkpoint("theirs.pth")["model"]
    expected = {name.removeprefix("module."): value for name, value in published.items()}
    assert len(theirs) == len(expected) - 2  # the buffer and the layer that nothing uses
    assert all(torch.equal(value, expected[name]) for name, value in theirs.items())


def test_a_classifier_gives_the_backbone(run_tool, model, published):
    body = "module.backbone.body."
    weights = {
        "module." + name.removeprefix(body): value
        for name, value in published.items()
        if name.startswith(body) and not name.endswith("num_batches_tracked")
    }
    weights["module.last_conv.conv.weight"] = torch.zeros(8, 128, 1, 1)
    torch.save({"state_dict": weights}, "imagenet.pkl")
    done = run_tool(TOOL, "imagenet.pkl", "start.pth", "--config", CONFIG, *NO_DATA)
    assert "1 tensors deliberately dropped\n  last_conv.conv.weight" in done.stdout
    assert "batch counters that were absent" in done.stdout
    state = load_checkpoint("start.pth")["state_dict"]
    expected = {n: v for n, v in model.state_dict().items() if n.startswith("backbone.")}
    assert state.keys() == expected.keys()
    assert all(
        torch.equal(state[name], value)
        for name, value in expected.items()
        if not name.endswith("num_batches_tracked")
    )


def test_new_classes_are_left_out(run_tool, model, published):
    score = "module.seg_branch.score."
    for leaf in ("weight", "bias"):
        published[score + leaf] = published[score + leaf][:2]
    torch.save({"model": published}, "other.pth")
    failed = run_tool(TOOL, "other.pth", "ours.pth", "--config", CONFIG, *NO_DATA, status=1)
    assert "another shape" in failed.stderr
    run_tool(TOOL, "other.pth", "ours.pth", "--config", CONFIG, "--new-classes", *NO_DATA)
    left_out = model.state_dict().keys() - load_checkpoint("ours.pth")["state_dict"].keys()
    assert len(left_out) == 8
    assert all("fc_" in n or "logits" in n or "score" in n for n in left_out)


def test_another_architecture_is_refused(run_tool, published):
    torch.save({"model": published}, "tiny.pth")
    options = ["data_root=no such folder", "model.semantic_head.choices=[0,0]"]
    failed = run_tool(
        TOOL, "tiny.pth", "x.pth", "--config", CONFIG, "--cfg-options", *options, status=1
    )
    assert "does not fit the model" in failed.stderr


def test_another_backbone_is_refused(run_tool, published):
    torch.save({"model": published}, "tiny.pth")
    config = CONFIG.parents[1] / "panoptic_deeplab" / "panoptic-deeplab_r18-tiny_1xb8-500_shapes.py"
    failed = run_tool(TOOL, "tiny.pth", "x.pth", "--config", config, *NO_DATA, status=1)
    assert "need a ShuffleNetV2Plus, the config's backbone is a DeepLabResNet" in failed.stderr
