"""What every map of names has from its base class, on a map of three tensors."""

import pytest
import torch
from torch import nn

from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap
from mmpanoptic.checkpoints.errors import CheckpointMismatchError
from mmpanoptic.checkpoints.key_map import KeyMap, Layout
from mmpanoptic.registry import MODELS
from tests.checkpoints.test_efficientps_keys import heads

COUNTER = "num_batches_tracked"


class SmallMap(KeyMap):
    layouts = (
        Layout(((r"^head\.", "top."),), mark=r"body\.|top\.", dropped=(r"old\.",)),
        Layout(((r"^body\.", ""),), mark=r"0\.", part=r"body\.", dropped=(r"fc\.",)),
    )
    class_bound = r"head\."
    groups = (r"body\.0\.", r"body\.1\.", r"head\.")


def small_model(classes=3):
    body = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    return nn.ModuleDict({"body": body, "head": nn.Linear(2, classes)})


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def published(model):
    return SmallMap(model).to_published(model.state_dict())


def test_the_mark_tells_the_layout(model, published):
    assert {"body.0.weight", "top.bias"} <= published.keys()
    bare = {n.removeprefix("body."): v for n, v in published.items() if n.startswith("body.")}
    placement = SmallMap(model).place({**bare, "fc.weight": torch.zeros(2)})
    assert placement.tensors.keys() == {n for n in model.state_dict() if n.startswith("body.")}
    assert placement.dropped == ["fc.weight"]
    with pytest.raises(CheckpointMismatchError, match=r"1 are unexpected \(fc\.weight\)"):
        SmallMap(model).place({**published, "fc.weight": torch.zeros(2)})


def test_each_layout_can_be_written(model):
    layout = Layout(((r"^head\.", "end."),))
    written = SmallMap(model).to_published(model.state_dict(), layout)
    assert torch.equal(written["end.weight"], model["head"].weight)
    with pytest.raises(CheckpointMismatchError, match="1 are unexpected"):
        SmallMap(model).to_published({**model.state_dict(), "more": torch.zeros(1)})


def test_what_is_dropped_and_zeroed_is_counted(model, published):
    del published[f"body.1.{COUNTER}"]
    state = {**published, "old.x": torch.zeros(1), "ema.x": torch.zeros(1)}
    placement = SmallMap(model).place(state, drop=[r"ema\."])
    assert placement.zeroed == 1
    assert placement.tensors[f"body.1.{COUNTER}"] == 0
    assert placement.dropped == ["ema.x", "old.x"]


def test_new_classes_drop_what_is_bound_to_them(published):
    with pytest.raises(CheckpointMismatchError, match=r"head\.weight \(3, 2\) instead of \(5, 2\)"):
        SmallMap(small_model(5)).place(published)
    placement = SmallMap(small_model(5)).place(published, new_classes=True)
    assert placement.dropped == ["top.bias", "top.weight"]
    assert "head.weight" not in placement.tensors


def test_groups_of_weights_to_start_from_are_complete_or_absent(model, published):
    start = {n: v for n, v in published.items() if n.startswith("body.0.")}
    assert SmallMap(model).to_ours(start, initial=True).keys() == start.keys()
    with pytest.raises(CheckpointMismatchError, match=r"body\.1\.bias"):
        SmallMap(model).place({**start, "body.1.weight": torch.zeros(2)}, initial=True)
    del start["body.0.bias"]
    with pytest.raises(CheckpointMismatchError, match=r"1 tensors are missing \(body\.0\.bias\)"):
        SmallMap(model).place(start, initial=True)


def test_models_without_published_names_are_refused(model):
    class Nameless(SmallMap):
        nameless = ((r"top\.", "no head"),)

    class Ambiguous(SmallMap):
        layouts = (Layout(((r"\d", "0"),)),)

    with pytest.raises(CheckpointMismatchError, match=r"head\.weight has no published name: no h"):
        Nameless(model)
    with pytest.raises(ValueError, match="same published name"):
        Ambiguous(model)


def test_scales_of_in_place_abn_return_or_are_refused():
    cfg = {"type": "LeakyEfficientNet", "arch": "b0", "width_factor": 0.25}
    model = nn.ModuleDict({"backbone": MODELS.build(cfg), **heads()})
    state = {name: value + 1 for name, value in model.state_dict().items()}
    key_map = EfficientPSKeyMap(model)
    back = key_map.to_ours(key_map.to_published(state))
    assert back.keys() == state.keys()
    assert all(torch.allclose(back[name], value) for name, value in state.items())
    norm = "backbone.layers.1.0.depthwise_conv.bn.weight"
    with pytest.raises(CheckpointMismatchError, match=r"below 0\.001, which in-place ABN cannot"):
        key_map.to_published({**state, norm: -state[norm]})
