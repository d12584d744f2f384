from collections import OrderedDict
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub

from mmpanoptic.engine.checkpoint_state import (
    message_hub_from_plain,
    message_hub_to_plain,
    misfits,
    to_plain,
)
from mmpanoptic.engine.random_state import (
    capture_random_state,
    isolated_random_state,
    restore_random_state,
)


class Kind(IntEnum):
    A = 3


def test_plain_values_load_with_weights_only(tmp_path):
    value = {
        "config": ConfigDict(a=[1, (2, "x")]),
        "scalar": np.float64(0.1),
        "flag": np.bool_(True),
        "array": np.arange(4, dtype=np.int32).reshape(2, 2)[:, ::-1],
        "weights": torch.nn.BatchNorm2d(3).state_dict(),
        "path": Path("a/b"),
        "kind": Kind.A,
        "none": None,
        "bytes": b"x",
        "dtype": torch.float16,
        3: {4},
    }
    torch.save(to_plain(value), tmp_path / "x.pth")
    plain = torch.load(tmp_path / "x.pth", weights_only=True)
    assert plain["config"] == {"a": [1, (2, "x")]}
    assert (plain["scalar"], plain["flag"], plain["path"], plain["kind"]) == (0.1, True, "a/b", 3)
    assert plain["array"].tolist() == [[1, 0], [3, 2]]
    assert isinstance(plain["weights"], OrderedDict)
    assert plain["weights"]._metadata[""] == {"version": 2}
    assert plain[3] == [4]


def test_what_is_not_plain_is_named_with_its_place():
    with pytest.raises(TypeError, match=r"checkpoint\.a\[1\]\.b is a builtins\.object"):
        to_plain({"a": [0, {"b": object()}]})


def test_message_hub_comes_back_and_unstorable_information_is_reported(tmp_path):
    hub = MessageHub.get_instance("test_message_hub_comes_back")
    for value in (0.5, 0.1, 0.7):
        hub.update_scalar("train/loss", value, count=2)
    hub.update_info("best_score", np.float32(0.25))
    hub.update_info("object", object())
    warnings = []
    torch.save(message_hub_to_plain(hub, warnings.append), tmp_path / "hub.pth")
    assert len(warnings) == 1
    assert "object" in warnings[0]
    state = torch.load(tmp_path / "hub.pth", weights_only=True)
    other = MessageHub.get_instance("test_message_hub_comes_back_2")
    other.load_state_dict(message_hub_from_plain(state))
    values, counts = other.get_scalar("train/loss").data
    assert values.tolist() == [0.5, 0.1, 0.7]
    assert counts.tolist() == [2, 2, 2]
    assert other.get_info("best_score") == 0.25
    assert other.get_info("object") is None


def draws():
    import random

    return random.random(), np.random.rand(), np.random.randn(), torch.rand(2).tolist()


def test_random_states_come_back_through_a_file(tmp_path):
    np.random.randn()  # NumPy keeps the second of a pair of normal numbers
    torch.save(capture_random_state(), tmp_path / "rng.pth")
    first = draws()
    draws()
    restore_random_state(torch.load(tmp_path / "rng.pth", weights_only=True))
    assert draws() == first


def test_isolated_block_leaves_no_trace():
    torch.manual_seed(1)
    first = torch.rand(3)
    torch.manual_seed(1)
    with isolated_random_state():
        draws()
    assert torch.equal(torch.rand(3), first)


def test_misfits_lists_missing_unknown_and_misshapen_weights():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    weights = model.state_dict()
    assert misfits(model, weights, allow_extra=False) == []
    weights.pop("1.num_batches_tracked")
    assert misfits(model, weights, allow_extra=False) == []
    weights.pop("0.bias")
    weights["0.weight"] = torch.zeros(3, 1)
    weights["extra"] = torch.zeros(1)
    problems = misfits(model, weights, allow_extra=False)
    assert problems == [
        "0.bias is missing",
        "0.weight has shape (3, 1) instead of (3, 2)",
        "extra is not in the model",
    ]
    assert misfits(model, weights, allow_extra=True) == problems[:2]
