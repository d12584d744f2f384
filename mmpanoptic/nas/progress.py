"""How far a search is and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from logging import Logger
from typing import Any

from ..engine.console import ALWAYS


class Progress:
    """Log the progress of a group of candidates that several workers evaluate.

    Args:
        logger (Logger): Receives the lines.
        fitness (str): Name of the metric that is maximised.
    """

    def __init__(self, logger: Logger, fitness: str) -> None:
        self.logger = logger
        self.fitness = fitness
        self._start: tuple[float, int] | None = None
        self._shown = -1

    def show(self, records: Mapping[str, Mapping[str, Any]], left: int, total: int) -> None:
        """Log one line if something has changed.

        Args:
            records (Mapping): All records so far, of all workers.
            left (int): Candidates of the present group without a record.
            total (int): Candidates of the present group.
        """
        now = time.monotonic()
        if self._start is None:
            self._start = (now, len(records))
        if len(records) == self._shown:
            return
        self._shown = len(records)
        self.logger.info(self.line(records, left, total, now), extra=ALWAYS)

    def line(
        self, records: Mapping[str, Mapping[str, Any]], left: int, total: int, now: float
    ) -> str:
        """Describe the state: done and left, best fitness so far, failures, time to go."""
        parts = [f"{total - left} of {total} candidates of this round are evaluated"]
        done = [r["metrics"] for r in records.values() if r["status"] == "done"]
        values = [metrics[self.fitness] for metrics in done if self.fitness in metrics]
        if values:
            parts.append(f"best {self.fitness} {max(values):.4g}")
        failed = sum(record["status"] == "failed" for record in records.values())
        if failed:
            parts.append(f"{failed} failed")
        start, before = self._start or (now, len(records))
        finished = len(records) - before  # by all workers since this one started
        if left and finished:
            seconds = (now - start) / finished * left
            parts.append(f"about {timedelta(seconds=round(seconds))} to go")
        return "; ".join(parts)
