"""Supernets and searches with two processes on a CPU."""

import json

import pytest
import torch

from mmpanoptic.checkpoints.loading import load_checkpoint
from tests.engine.test_distributed import launch
from tests.engine.toy import train
from tests.nas.test_loops import records
from tests.nas.toy import WINDOW, search_config, supernet_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two processes")


def write(cfg, path):
    for key in ("experiment_name", "work_dir"):
        cfg.pop(key)
    cfg.dump(path)
    return path


def without_norms(cfg, batch_size):
    """Norms would see the images of one process only."""
    cfg.model = {**cfg.model, "backbone": {**cfg.model.backbone, "norm": False}}
    cfg.train_dataloader.batch_size = batch_size
    cfg.find_unused_parameters = True
    return cfg


@pytest.fixture(scope="module")
def both(folder):
    """Weights after the same supernet training by one process and by two."""
    one = train(without_norms(supernet_config(folder / "one", steps=2 * WINDOW), 2))
    cfg = without_norms(supernet_config(folder / "two", steps=2 * WINDOW), 1)
    config = write(cfg, folder / "supernet.py")
    status, output = launch("dist_train.sh", config, 2, "--work-dir", folder / "two")
    assert status == 0, output
    two = load_checkpoint(folder / "two" / f"iter_{2 * WINDOW}.pth")["state_dict"]
    return one.model.state_dict(), two


def test_two_processes_sum_the_gradients_of_a_window_as_one_does(both):
    one, two = both
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=1e-5, atol=1e-7), name


def test_two_processes_work_on_one_candidate(folder):
    train(supernet_config(folder / "normed", steps=WINDOW))
    cfg = search_config(
        folder / "search", folder / "normed" / f"iter_{WINDOW}.pth", cycles=1, storage=None
    )
    config = write(cfg, folder / "search.py")
    status, output = launch("dist_train.sh", config, 2, "--work-dir", folder / "search")
    assert status == 0, output
    found = folder / "search" / "search"
    trials = records(found)
    assert len({trial["worker"]["process"] for trial in trials}) == 1  # the first process writes
    keys = [trial["fingerprint"] for trial in trials]
    assert len(keys) == len(set(keys)) >= WINDOW
    assert json.loads((found / "search.json").read_text())["models"]
