"""How far trials are, and the Pareto set of finished ones as pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from logging import Logger
from pathlib import Path
from typing import Any

from ..utils.files import atomic_write
from .storage import require_optuna

PAUSE = 5.0
"""Seconds between lines, for trials that take less."""


class Progress:
    """Log how far a group of candidates is that several workers evaluate.

    Args:
        logger (Logger): Receives the lines.
        name (str): Name of the first objective.
        maximise (bool): Whether more of it is better.
        extra (dict | None): Marks of the lines, as ``logging`` takes them.
    """

    def __init__(
        self, logger: Logger, name: str, maximise: bool = True, extra: dict[str, Any] | None = None
    ) -> None:
        self.logger, self.name, self.maximise, self.extra = logger, name, maximise, extra
        self._start: tuple[float, int] | None = None
        self._shown, self._told = -1, -PAUSE

    def __call__(self, trials: Mapping[str, Any], left: int, total: int) -> None:
        """Log a line if something has changed, every few seconds at most.

        Args:
            trials (Mapping): All trials so far, of all workers.
            left (int): Candidates of the present group that are not finished.
            total (int): Candidates of the present group.
        """
        now = time.monotonic()
        finished = sum(trial.state.is_finished() for trial in trials.values())
        self._start = self._start or (now, finished)
        if finished != self._shown and (not left or now - self._told >= PAUSE):
            self._shown, self._told = finished, now
            self.logger.info(self.line(trials, left, total, now), extra=self.extra)

    def line(self, trials: Mapping[str, Any], left: int, total: int, now: float) -> str:
        """Describe the state: done and left, best value so far, failures, time to go."""
        finished = [trial for trial in trials.values() if trial.state.is_finished()]
        parts = [f"{total - left} of {total} candidates of this round are evaluated"]
        values = [trial.values[0] for trial in finished if trial.state.name == "COMPLETE"]
        if values:
            parts.append(f"best {self.name} {(max if self.maximise else min)(values):.4g}")
        for state, word in (("PRUNED", "given up early"), ("FAIL", "failed")):
            count = sum(trial.state.name == state for trial in finished)
            if count:
                parts.append(f"{count} {word}")
        start, before = self._start or (now, len(finished))
        here = len(finished) - before  # by all workers since this one started
        if left and here:
            parts.append(f"about {timedelta(seconds=round((now - start) / here * left))} to go")
        return "; ".join(parts)


def front_study(
    rows: Sequence[tuple[str, Sequence[float]]], directions: Sequence[str]
) -> tuple[Any, list[str]]:
    """Find the Pareto set.

    Args:
        rows (Sequence): Name and values of each finished candidate.
        directions (Sequence[str]): ``maximize`` or ``minimize`` for each value.

    Returns:
        tuple[Study, list[str]]: Optuna's study of them, for its pictures; the names of the
        candidates of which no other is better in everything, by ascending last value.
    """
    optuna = require_optuna()
    study = optuna.create_study(directions=list(directions))
    for name, values in rows:
        trial = optuna.trial.create_trial(values=list(values), user_attrs={"name": name})
        study.add_trial(trial)
    front = sorted(study.best_trials, key=lambda trial: trial.values[-1])
    return study, [trial.user_attrs["name"] for trial in front]


def draw_front(path: str | os.PathLike[str], study: Any, names: Sequence[str]) -> None:
    """Draw the Pareto set of two or three objectives as ``.png``, and as ``.html`` to look into.

    Args:
        path: The picture without suffix.
        study (Study): From :func:`front_study`.
        names (Sequence[str]): Of the objectives.
    """
    import matplotlib

    require_optuna()
    from optuna import visualization

    path = Path(path)
    with matplotlib.rc_context({"backend": "Agg"}):
        from matplotlib import pyplot

        axes: Any = visualization.matplotlib.plot_pareto_front(study, target_names=list(names))
        with atomic_write(path.with_suffix(".png")) as temporary:
            axes.figure.savefig(temporary, dpi=120, format="png", bbox_inches="tight")
        pyplot.close(axes.figure)
    figure = visualization.plot_pareto_front(study, target_names=list(names))
    figure.write_html(path.with_suffix(".html"), include_plotlyjs="directory")
