import pytest

pytest.importorskip("starlette", reason="needs requirements/web.txt")
pytest.importorskip("uvicorn", reason="needs requirements/web.txt")


@pytest.fixture(scope="session")
def inferencer():
    """The model that comes along."""
    from mmpanoptic.apis import PanopticInferencer

    return PanopticInferencer("nuclei", device="cpu")
