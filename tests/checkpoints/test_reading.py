"""Files of weights are told apart by their first bytes, not by their names."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmpanoptic.checkpoints import CheckpointError, DamagedCheckpointError, load_checkpoint
from mmpanoptic.checkpoints.foreign_weights import read_foreign_weights
from mmpanoptic.checkpoints.reading import format_of

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def write(kind, path):
    if kind == "zip":
        torch.save(STATE, path)
    elif kind == "legacy":
        torch.save({"model": STATE}, path, _use_new_zipfile_serialization=False)
    elif kind == "safetensors":
        save_file(STATE, path, metadata={"format": "pt"})
    else:
        content = {name: value.numpy() for name, value in STATE.items()}
        path.write_bytes(pickle.dumps({"model": content, "__author__": "x"}, 2))
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".pth.tar", ".safetensors", ""])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_every_format_is_read_under_every_name(tmp_path, kind, suffix):
    path = write(kind, tmp_path / f"x{suffix}")
    assert format_of(path) == kind
    state = read_foreign_weights(path)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], value) for name, value in STATE.items())
    assert isinstance(load_checkpoint(path), dict)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_legacy_files_of_other_protocols_are_known(tmp_path, protocol):
    path = tmp_path / "x.pkl"
    torch.save(STATE, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    assert format_of(path) == "legacy"
    if protocol < 4:
        assert read_foreign_weights(path).keys() == STATE.keys()
    else:  # torch's safe unpickler knows no frames
        with pytest.raises(CheckpointError, match=r"x\.pkl.*pickle protocol 4"):
            read_foreign_weights(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_cut_files_are_named_damaged(tmp_path, kind):
    path = write(kind, tmp_path / "x.bin")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedCheckpointError, match=r"x\.bin"):
        load_checkpoint(path)


def test_a_plain_pickle_called_pth_runs_no_code(tmp_path, monkeypatch):
    class Attack:
        def __reduce__(self):
            import os

            return os.mkdir, ("mark",)

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"w": np.zeros(1), "x": Attack()}))
    with pytest.raises(CheckpointError, match="more than weights"):
        load_checkpoint(path, trust=True)
    assert not (tmp_path / "mark").exists()


def test_other_files_have_no_format(tmp_path):
    path = tmp_path / "x.pth"
    path.write_text("hello world, this is text")
    assert format_of(path) == "unknown"
