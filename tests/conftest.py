"""Tests run as the environment says: under a setting of rounding, with a fault, or recorded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.parity import recording
from tests.parity.faults import FAULTS
from tests.parity.settings import FAULT, RECORD, chosen_mode

folder = os.environ.get(RECORD)
fault = FAULTS[os.environ[FAULT]] if os.environ.get(FAULT) else nullcontext

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # so a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with chosen_mode(), fault(), recording.of(item.nodeid, Path(folder) if folder else None):
        yield
