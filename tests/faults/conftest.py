import pytest

from mmpanoptic.checkpoints.loading import load_checkpoint

from .runs import STEPS, finish, write_config


@pytest.fixture(scope="session")
def slow_run(tmp_path_factory):
    """Config of a run that takes seconds, and the checkpoint that it ends with."""
    folder = tmp_path_factory.mktemp("fault suite")
    config = write_config(folder)
    finish(config, folder / "whole")
    return config, load_checkpoint(folder / "whole" / f"iter_{STEPS}.pth")
