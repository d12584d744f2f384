"""Tables and pictures of a search."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..tuning.report import draw_front, front_study
from ..utils.files import atomic_write, write_json
from .space import Architecture, SearchSpace


def write_report(
    folder: Path,
    space: SearchSpace,
    rows: Sequence[Mapping[str, Any]],
    chosen: Sequence[Architecture],
    details: Mapping[str, Any],
    objectives: Sequence[str] = (),
) -> None:
    """Write ``evaluations.csv``, ``search.json`` and the pictures of a search.

    Args:
        folder (Path): Receives the files.
        space (SearchSpace): The space.
        rows (Sequence[Mapping]): Evaluated architectures in the order of the search: ``digits``,
            ``fitness`` (None if it failed or was given up early), all ``metrics``, ``cost`` by
            name, ``seconds``, ``host``.
        chosen (Sequence[Architecture]): The models that the search found, the best first.
        details (Mapping): Plain values about the search; ``scores``, one list per decision, is
            drawn as ``scoreboard.png``.
        objectives (Sequence[str]): Costs that are minimised together; their common Pareto set is
            written beside those of fitness and each cost.
    """
    costs = list(dict.fromkeys(name for row in rows for name in row["cost"]))
    sets: dict[str, list[str]] = {name: [name] for name in costs if "." not in name}
    if len(objectives) > 1:
        sets["objectives"] = list(objectives)
    fronts: dict[str, list[str]] = {}
    valid = [row for row in rows if row["fitness"] is not None]
    for title, names in sets.items():
        points = [(r["digits"], [r["fitness"], *(r["cost"][n] for n in names)]) for r in valid]
        study, fronts[title] = front_study(points, ["maximize", *["minimize"] * len(names)])
        if points and len(names) < 3:  # pictures have three axes at most
            draw_front(folder / f"pareto_{title}", study, ["fitness", *names])
    models = [
        {"digits": space.digits(a), "choices": space.to_json(a), "names": space.describe(a)}
        for a in chosen
    ]
    _write_csv(folder / "evaluations.csv", rows, [str(m["digits"]) for m in models], costs, fronts)
    content = {"models": models, "pareto": fronts, **details, "evaluations": list(rows)}
    write_json(folder / "search.json", content, indent=1)
    if details.get("scores"):
        _draw_scoreboard(folder / "scoreboard.png", space, details["scores"])


def _write_csv(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    models: Sequence[str],
    costs: Sequence[str],
    fronts: Mapping[str, Sequence[str]],
) -> None:
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    header = ["digits", "fitness", "model", *costs, *(f"pareto_{name}" for name in fronts)]
    with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*header, *metrics, "seconds", "host"], "", "ignore")
        writer.writeheader()
        for row in rows:
            digits, fitness = row["digits"], row["fitness"]
            known = {
                "fitness": "failed" if fitness is None else fitness,
                "model": models.index(digits) if digits in models else "",
                "seconds": f"{row['seconds']:.3f}",
                **{f"pareto_{name}": int(digits in front) for name, front in fronts.items()},
            }
            writer.writerow({**row, **row["cost"], **row["metrics"], **known})


def _draw_scoreboard(path: Path, space: SearchSpace, scores: Sequence[Sequence[float]]) -> None:
    """Draw the score of every choice of every decision as a heat map, one row per group."""
    import numpy as np

    # Agg directly: pyplot would keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [len(group.choices) for group in space.groups]
    width = max(6.0, 0.32 * max(group.size for group in space.groups) + 2.5)
    height = sum(0.32 * count + 0.8 for count in rows)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    rest = list(scores)
    for axis, group in zip(axes, space.groups, strict=True):
        own, rest = np.array(rest[: group.size]).T, rest[group.size :]
        shares = (own - own.min(axis=0)) / np.maximum(np.ptp(own, axis=0), 1e-12)
        axis.imshow(shares, aspect="auto", vmin=0, vmax=1)
        axis.set_yticks(range(len(group.choices)), group.choices, fontsize=7)
        axis.set_xticks(range(group.size), range(group.size), fontsize=7)
        axis.set_title(group.name, fontsize=8, loc="left")
        # Of equal choices the one with the larger number is taken.
        best = len(own) - 1 - own[::-1].argmax(axis=0)
        axis.plot(range(group.size), best, "r.", markersize=4)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
