import pytest

from tests import fake_timm


@pytest.fixture(autouse=True)
def timm(monkeypatch):
    """Some leaves take their backbone from timm, which tests do without."""
    fake_timm.stand_in(monkeypatch)
