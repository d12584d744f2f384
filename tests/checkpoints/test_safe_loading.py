import pickle

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmpanoptic.checkpoints.errors import CheckpointError
from mmpanoptic.checkpoints.published import install_safe_loading

install_safe_loading()


class Net(BaseModule):
    def __init__(self, checkpoint):
        super().__init__({"type": "Pretrained", "checkpoint": str(checkpoint)})
        self.layer = nn.Linear(2, 2)


class Malice:
    def __reduce__(self):
        return print, ("executed",)


def test_pretrained_weights_are_loaded_from_a_local_file(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"layer.weight": torch.eye(2), "layer.bias": torch.ones(2)}}, path)
    net = Net(path)
    net.init_weights()
    assert torch.equal(net.layer.weight, torch.eye(2))


def test_a_pickle_with_code_is_refused(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": Malice()}, path, pickle_module=pickle)
    with pytest.raises(CheckpointError):
        Net(path).init_weights()
    assert "executed" not in capsys.readouterr().out
