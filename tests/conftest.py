"""Tests run as the environment says: under a setting of rounding, with a fault, or recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.parity import recording
from tests.parity.faults import FAULTS
from tests.parity.settings import FAULT, RECORD, chosen_mode

folder = os.environ.get(RECORD)
fault = FAULTS[os.environ[FAULT]] if os.environ.get(FAULT) else nullcontext


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with chosen_mode(), fault(), recording.of(item.nodeid, Path(folder) if folder else None):
        yield
