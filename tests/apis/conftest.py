import pytest

from .tiny_model import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("a checkpoint") / "weights.pth")
