"""Keep messages of a part of the work out of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def muted(level: int = logging.INFO) -> Iterator[None]:
    """Drop the messages of all loggers up to a level while the block runs.

    Args:
        level (int): The most urgent that is dropped.
    """
    before = logging.root.manager.disable
    logging.disable(max(level, before))
    try:
        yield
    finally:
        logging.disable(before)
