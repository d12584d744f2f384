import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmpanoptic.checkpoints import (
    CheckpointError,
    DamagedCheckpointError,
    load_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "with space" / "iter_1.pth"
    save_checkpoint({"state_dict": {"w": torch.arange(2000.0)}, "meta": {"iter": 1}}, path)
    return path


def test_content_comes_back(file):
    content = load_checkpoint(file)
    assert content["meta"] == {"iter": 1}
    assert torch.equal(content["state_dict"]["w"], torch.arange(2000.0))


def test_a_failed_write_leaves_the_old_file_and_no_other(file):
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint({"bad": lambda: None}, file)
    assert load_checkpoint(file)["meta"] == {"iter": 1}
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_cut_file_is_named_damaged(file, keep):
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DamagedCheckpointError, match=r"(?s)iter_1\.pth .*another checkpoint"):
        load_checkpoint(file)


def test_one_changed_byte_in_the_weights_is_found(file):
    with zipfile.ZipFile(file) as archive:
        weights = archive.read(next(n for n in archive.namelist() if n.endswith("data/0")))
    data = bytearray(file.read_bytes())
    data[data.index(weights) + 4000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match="checksum"):
        verify_checkpoint(file)


def test_a_missing_file_and_other_content_are_named(file, tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello world")
    with pytest.raises(CheckpointError, match=r"text\.pth"):
        load_checkpoint(tmp_path / "text.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(tmp_path / "list.pth")


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("new_format", [False, True])
def test_code_in_a_file_never_runs(tmp_path, monkeypatch, trust, new_format):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": {}, "x": Attack()}
    torch.save(content, "bad.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match="system"):
        load_checkpoint("bad.pth", trust=trust)
    assert not os.path.exists("attacked")


def old_mmengine_checkpoint(path):
    history = HistoryBuffer()
    history.update(0.5)
    content = {
        "meta": {"dataset_meta": ConfigDict(classes=["a"]), "score": np.float64(0.25)},
        "state_dict": {"w": torch.ones(2)},
        "message_hub": {"log_scalars": {"train/loss": history}},
        "array": np.arange(3),
    }
    torch.save(content, path)


def test_pickles_of_mmengine_load_only_when_trusted(tmp_path):
    path = tmp_path / "old.pth"
    old_mmengine_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"HistoryBuffer.*--trust"):
        load_checkpoint(path)
    content = load_checkpoint(path, trust=True)
    assert content["message_hub"]["log_scalars"]["train/loss"].mean() == 0.5
    assert content["meta"]["score"] == 0.25
    assert content["meta"]["dataset_meta"]["classes"] == ["a"]
    assert content["array"].tolist() == [0, 1, 2]


def test_trust_does_not_open_getattr(tmp_path):
    class Probe:
        def __reduce__(self):
            return getattr, (HistoryBuffer, "__init__")

    torch.save({"x": Probe()}, tmp_path / "probe.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "probe.pth", trust=True)


def test_a_runs_folder_stands_for_its_newest_checkpoint_even_when_moved(tmp_path):
    run = tmp_path / "run"
    save_checkpoint({"state_dict": {"w": torch.ones(2)}}, run / "iter_2.pth")
    (run / "last_checkpoint").write_text("/where/it/was/iter_2.pth")
    assert load_checkpoint(run)["state_dict"]["w"].tolist() == [1, 1]


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="without the file last_checkpoint"):
        load_checkpoint(tmp_path)
