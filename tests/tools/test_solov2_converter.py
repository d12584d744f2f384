import pytest
import torch

from mmpanoptic.apis import init_model
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.checkpoints.solov2_keys import MMDET, OFFICIAL, SOLOv2KeyMap

TOOL = "model_converters/solov2.py"
CONFIG = "solov2_r18-tiny_1xb8-1k_shapes"
NO_DATA = ("--cfg-options", "data_root=no such folder")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = init_model(CONFIG, device="cpu", cfg_options={"data_root": "no such folder"})
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


def released(model, folder, layout):
    """The model as the published code stores it, without batch counters."""
    naming = {"official": OFFICIAL, "mmdet": MMDET}[layout]
    state = SOLOv2KeyMap(model).to_published(model.state_dict(), naming)
    kept = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    path = folder / f"{layout}.pth"
    torch.save({"meta": {"epoch": 12}, "state_dict": kept}, path)
    return path


@pytest.mark.parametrize("layout", ["official", "mmdet"])
def test_a_released_model_becomes_ours(run_tool, model, layout):
    source = released(model, run_tool.folder, layout)
    done = run_tool(TOOL, source, "ours.pth", "--config", CONFIG, *NO_DATA)
    assert "0 tensors deliberately dropped" in done.stdout
    state = load_checkpoint(run_tool.folder / "ours.pth")["state_dict"]
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(state[name], value), name


def test_ours_becomes_an_official_one(run_tool, model):
    source = released(model, run_tool.folder, "mmdet")
    run_tool(TOOL, source, "ours.pth", "--config", CONFIG, *NO_DATA)
    run_tool(TOOL, "ours.pth", "back.pth", "--to-published", "--config", CONFIG, *NO_DATA)
    back = load_checkpoint(run_tool.folder / "back.pth")["model"]
    assert {"bbox_head.solo_cate.weight", "mask_feat_head.conv_pred.0.conv.weight"} <= back.keys()
    again = SOLOv2KeyMap(model).to_ours(back)
    assert again.keys() == model.state_dict().keys()


def test_new_classes_leave_the_category_predictor_out(run_tool, model):
    source = released(model, run_tool.folder, "official")
    run_tool(TOOL, source, "ours.pth", "--new-classes", "--config", CONFIG, *NO_DATA)
    state = load_checkpoint(run_tool.folder / "ours.pth")["state_dict"]
    left_out = model.state_dict().keys() - state.keys()
    assert left_out == {"instance_head.conv_cls.weight", "instance_head.conv_cls.bias"}


def test_another_variant_is_refused(run_tool, model):
    source = released(model, run_tool.folder, "official")
    done = run_tool(TOOL, source, "x.pth", "--config", "solov2_r50_8xb2-90k_coco", status=1)
    assert "does not fit the model" in done.stderr
