import pickle

import pytest
import torch

from mmpanoptic.apis import init_model
from mmpanoptic.checkpoints.cops_keys import CopsKeyMap
from mmpanoptic.checkpoints.loading import load_checkpoint

TOOL = "model_converters/cops.py"
CONFIG = "cops_r18-tiny_pretrain_1xb8-600_shapes"
NO_DATA = ("--cfg-options", "data_root=no such folder")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = init_model(CONFIG, device="cpu", cfg_options={"data_root": "no such folder"})
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def released(model, run_tool):
    """The model as the published code stores it after the second stage."""
    state = CopsKeyMap(model).to_published(model.state_dict())
    content = {n: v.numpy() for n, v in state.items() if not n.endswith("num_batches_tracked")}
    preprocessor = model.cfg.model.data_preprocessor
    for name in ("mean", "std"):
        value = torch.tensor(preprocessor[name]).view(3, 1, 1)
        content[f"pixel_{name}"] = value.numpy()
    content["amwc_layer.training_per_class_areas"] = torch.zeros(11).numpy()
    path = run_tool.folder / "released.pkl"
    path.write_bytes(pickle.dumps({"model": content}, 4))
    return path


def test_a_released_model_becomes_ours_and_back(run_tool, model, released):
    done = run_tool(TOOL, released, "ours.pth", "--config", CONFIG, *NO_DATA)
    assert "3 tensors deliberately dropped" in done.stdout
    assert "amwc_layer.training_per_class_areas" in done.stdout
    state = load_checkpoint(run_tool.folder / "ours.pth")["state_dict"]
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(state[name], value), name
    run_tool(TOOL, "ours.pth", "back.pth", "--to-published", "--config", CONFIG, *NO_DATA)
    back = load_checkpoint(run_tool.folder / "back.pth")["model"]
    assert back.keys() == CopsKeyMap(model).to_published(model.state_dict()).keys()


def test_another_variant_is_refused(run_tool, released):
    other = "cops_r52_pretrain_1xb12-50k_cityscapes-512x1024"
    done = run_tool(TOOL, released, "ours.pth", "--config", other, status=1)
    assert "does not fit the model" in done.stderr
