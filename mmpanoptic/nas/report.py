"""Tables and pictures of a search."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.files import atomic_write, write_json
from .results import Result, pareto_front
from .space import Architecture, SearchSpace


def write_report(
    folder: str | os.PathLike[str],
    space: SearchSpace,
    results: Sequence[Result],
    chosen: Sequence[Architecture],
    details: Mapping[str, Any],
) -> None:
    """Write ``evaluations.csv``, ``search.json`` and the pictures of a search.

    Args:
        folder: Receives the files.
        space (SearchSpace): The space.
        results (Sequence[Result]): Evaluated architectures in the order of the search.
        chosen (Sequence[Architecture]): The models that the search found, the best first.
        details (Mapping): Plain values about the search; ``scores``, one list per decision, is
            drawn as ``scoreboard.png``.
    """
    folder = Path(folder)
    costs = [name for name in _wholes(results) if "." not in name]
    fronts = {name: pareto_front(results, name) for name in costs}
    with atomic_write(folder / "evaluations.csv") as path:
        _write_csv(path, results, chosen, fronts)
    content = {
        "models": [
            {"digits": space.digits(a), "choices": space.to_json(a), "names": space.describe(a)}
            for a in chosen
        ],
        "pareto": {name: [r.digits for r in front] for name, front in fronts.items()},
        **details,
        "evaluations": [
            {
                "digits": r.digits,
                "fitness": r.fitness,
                "metrics": r.metrics,
                "cost": r.cost,
                "seconds": r.seconds,
                "host": r.host,
            }
            for r in results
        ],
    }
    write_json(folder / "search.json", content, indent=1)
    for name, front in fronts.items():
        draw_pareto(folder / f"pareto_{name}.png", results, front, chosen, name)
    if details.get("scores"):
        draw_scoreboard(folder / "scoreboard.png", space, details["scores"])


def _wholes(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.cost))


def _write_csv(
    path: Path,
    results: Sequence[Result],
    chosen: Sequence[Architecture],
    fronts: Mapping[str, Sequence[Result]],
) -> None:
    metrics = list(dict.fromkeys(name for result in results for name in result.metrics))
    costs = _wholes(results)
    rank = {arch: number for number, arch in enumerate(chosen)}
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        pareto = [f"pareto_{name}" for name in fronts]
        header = ["digits", "fitness", "model", *costs, *pareto, *metrics, "seconds", "host"]
        writer.writerow(header)
        for result in results:
            writer.writerow(
                [
                    result.digits,
                    "failed" if result.fitness is None else result.fitness,
                    rank.get(result.arch, ""),
                    *(result.cost[name] for name in costs),
                    *(int(result in front) for front in fronts.values()),
                    *(result.metrics.get(name, "") for name in metrics),
                    f"{result.seconds:.3f}",
                    result.host,
                ]
            )


def draw_pareto(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    front: Sequence[Result],
    chosen: Sequence[Architecture],
    cost: str,
) -> None:
    """Draw fitness against cost, with the Pareto set and the found models.

    Args:
        path: The picture.
        results (Sequence[Result]): Evaluated architectures.
        front (Sequence[Result]): Of which these form the Pareto set.
        chosen (Sequence[Architecture]): The models that the search found, the best first.
        cost (str): Name of the cost on the horizontal axis.
    """
    figure, axes = _figure(6.4, 4.8)
    valid = [result for result in results if result.fitness is not None]
    axes.scatter([r.cost[cost] for r in valid], [r.fitness for r in valid], s=18, label="evaluated")
    axes.step(
        [r.cost[cost] for r in front],
        [r.fitness for r in front],
        where="post",
        color="tab:orange",
        label="Pareto set",
    )
    by_arch = {result.arch: result for result in valid}
    for number, arch in enumerate(chosen):
        if arch in by_arch:
            spot = (by_arch[arch].cost[cost], by_arch[arch].fitness)
            axes.annotate(f"model {number}", spot, xytext=(4, 4), textcoords="offset points")
            axes.scatter(*spot, s=60, facecolors="none", edgecolors="tab:red")
    axes.set_xlabel(cost)
    axes.set_ylabel("fitness")
    axes.legend()
    _save(figure, path)


def draw_scoreboard(
    path: str | os.PathLike[str], space: SearchSpace, scores: Sequence[Sequence[float]]
) -> None:
    """Draw the score of every choice of every decision as a heat map, one row per group.

    Args:
        path: The picture.
        space (SearchSpace): The space.
        scores (Sequence[Sequence[float]]): For each decision the scores of its choices.
    """
    import numpy as np

    figure, axes = _figure(
        max(6.0, 0.32 * max(group.size for group in space.groups) + 2.5),
        sum(0.32 * len(group.choices) + 0.8 for group in space.groups),
        rows=[len(group.choices) for group in space.groups],
    )
    rest = list(scores)
    for axis, group in zip(axes, space.groups, strict=True):
        own, rest = np.array(rest[: group.size]).T, rest[group.size :]
        # Every decision by itself: its best choice is the brightest cell of its column.
        low, high = own.min(axis=0), own.max(axis=0)
        axis.imshow(
            (own - low) / np.where(high > low, high - low, 1), aspect="auto", vmin=0, vmax=1
        )
        axis.set_yticks(range(len(group.choices)), group.choices, fontsize=7)
        axis.set_xticks(range(group.size), [str(i) for i in range(group.size)], fontsize=7)
        axis.set_title(group.name, fontsize=8, loc="left")
        axis.plot(range(group.size), group_best(own), "r.", markersize=4)
    _save(figure, path)


def group_best(scores: Any) -> list[int]:
    """Number the best choice of every column; of equal ones the larger number."""
    last = len(scores) - 1
    return [int(last - column[::-1].argmax()) for column in scores.T]


def _figure(width: float, height: float, rows: Sequence[int] | None = None) -> tuple[Any, Any]:
    # Agg directly: pyplot would ask for a display and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if rows is None:
        return figure, figure.subplots()
    axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": rows})
    return figure, axes[:, 0]


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
