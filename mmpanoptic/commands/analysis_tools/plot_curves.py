"""Draw losses, learning rates and metrics of training runs, one panel for each name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s work_dirs/demo --out curves.png
  %(prog)s work_dirs/a work_dirs/b --keys loss coco_panoptic/PQ --labels first second --out ab.png
  %(prog)s work_dirs/first_stage work_dirs/second_stage --start 0 600 --out stages.png

Read are the files vis_data/scalars.json that every run writes. Of a run that was resumed the later
value of an iteration counts.
"""

Curve = tuple[list[int], list[float]]


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("runs", nargs="+", type=Path, metavar="WORK_DIR", help="folder of a run")
    parser.add(
        "--keys",
        nargs="+",
        metavar="NAME",
        help="what to draw (default: loss and what there is of PQ, else of other metrics)",
    )
    parser.add("--labels", nargs="+", metavar="TEXT", help="name of each run (default: its folder)")
    parser.add("--start", nargs="+", type=int, metavar="N", help="first iteration of each run")
    parser.add(
        "--smooth",
        type=cli.at_least(1),
        default=1,
        metavar="N",
        help="average N neighbours (default 1: none)",
    )
    parser.add("--out", type=Path, required=True, metavar="FILE", help="picture to write")
    return parser


def read_curves(run: Path, start: int = 0) -> dict[str, Curve]:
    """Read all numbers of a run.

    Args:
        run (Path): Folder of the run.
        start (int): Added to the iterations.

    Returns:
        dict[str, tuple]: Iterations and values by name.

    Raises:
        FileNotFoundError: If the folder holds no numbers.
        ValueError: If a line of a file is no JSON object.
    """
    files = sorted(run.glob("*/vis_data/scalars.json"))
    if not files:
        raise FileNotFoundError(f"{run} has no */vis_data/scalars.json; it is no folder of a run")
    values: dict[str, dict[int, float]] = {}
    for file in files:
        last = 0
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                entry = dict(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
            # Validation is logged with the number of the epoch, 0 in runs by iterations.
            step = last = max(int(entry.pop("step", 0)), last)
            for name, value in entry.items():
                if isinstance(value, int | float):
                    values.setdefault(name, {})[start + step] = float(value)
    return {name: (sorted(v), [v[step] for step in sorted(v)]) for name, v in values.items()}


def default_keys(curves: Sequence[Mapping[str, Curve]]) -> list[str]:
    """Choose what the runs have: the loss, and PQ, or else the first metrics.

    Raises:
        ValueError: If there is none of them.
    """
    known = sorted({name for run in curves for name in run})
    metrics = [name for name in known if "/" in name]
    quality = [name for name in metrics if name.endswith("/PQ")]
    keys = [name for name in known if name == "loss"] + (quality or metrics[:3])
    if not keys:
        raise ValueError(f"the runs have neither loss nor metrics; there are: {', '.join(known)}")
    return keys


def check_keys(keys: Sequence[str], curves: Sequence[Mapping[str, Curve]]) -> None:
    """Refuse names that no run has.

    Raises:
        ValueError: Names them and those that there are.
    """
    known = sorted({name for run in curves for name in run})
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ValueError(f"no run has {', '.join(unknown)}; there are: {', '.join(known)}")


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Average each value with its neighbours, fewer of them at the ends."""
    half = width // 2
    windows = [values[max(at - half, 0) : at + half + 1] for at in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def draw(
    keys: Sequence[str], runs: Mapping[str, Mapping[str, Curve]], smooth: int, out: Path
) -> None:
    """Draw one panel per name with one line per run.

    Args:
        keys (Sequence[str]): Names.
        runs (Mapping): Curves by name, by label of the run.
        smooth (int): Values to average.
        out (Path): The picture; its suffix chooses the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from mmpanoptic.utils import atomic_write

    figure, axes = pyplot.subplots(1, len(keys), figsize=(5 * len(keys), 3.4), squeeze=False)
    for key, axis in zip(keys, axes[0], strict=True):
        for number, (label, curves) in enumerate(runs.items()):
            if key not in curves:
                continue
            steps, values = curves[key]
            style = {"color": f"C{number}", "marker": "o" if len(steps) < 20 else None}
            axis.plot(steps, smoothed(values, smooth), label=label, markersize=3, **style)
        axis.set_title(key)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    named: dict[str, Any] = {}
    for axis in axes[0]:
        handles, labels = axis.get_legend_handles_labels()
        named.update(zip(labels, handles, strict=True))
    axes[0][-1].legend(named.values(), named.keys(), fontsize=8)
    figure.tight_layout()
    with atomic_write(out) as temporary:
        figure.savefig(temporary, format=out.suffix.removeprefix(".") or "png", dpi=100)
    pyplot.close(figure)


PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{font-family: sans-serif; margin: 2em}} td, th {{padding: .2em 1em; text-align: right}}
th:first-child {{text-align: left}} svg {{max-width: 100%; height: auto}}</style>
<h1>{title}</h1>
{picture}
<table><tr><th></th><th>last</th><th>least</th><th>greatest</th></tr>
{rows}
</table></html>
"""


def write_curves(run: Path) -> Iterator[str]:
    """Draw loss, quality and learning rate of a run: ``curves.png`` and ``curves.html`` in it.

    Args:
        run (Path): Folder of the run.

    Yields:
        str: Where they are; nothing of a run that wrote no numbers, as a search does.
    """
    from mmpanoptic.utils import atomic_write

    if not any(run.glob("*/vis_data/scalars.json")):
        return
    curves = read_curves(run)
    names = [name for name in curves if "/" in name] + [n for n in curves if "loss" in n]
    if "loss" not in curves and not any("/" in name for name in curves):
        return
    keys = [*default_keys([curves]), *(["lr"] if "lr" in curves else [])]
    draw(keys, {run.name: curves}, 1, run / "curves.png")
    vectors = run / ".curves.svg"
    draw(keys, {run.name: curves}, 1, vectors)
    svg = vectors.read_text(encoding="utf-8")
    vectors.unlink()
    rows = [
        f"<tr><th>{escape(name)}</th><td>{values[-1]:.4g}</td><td>{min(values):.4g}</td>"
        f"<td>{max(values):.4g}</td></tr>"
        for name, (_, values) in curves.items()
        if name in (*names, "lr")
    ]
    picture = svg[svg.index("<svg") :]
    page = PAGE.format(title=escape(run.name), picture=picture, rows="\n".join(rows))
    with atomic_write(run / "curves.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    yield f"curves: {run / 'curves.png'}, {run / 'curves.html'}"


def run(args: argparse.Namespace) -> Iterator[str]:
    """Read, draw, write."""
    for name in ("labels", "start"):
        values = getattr(args, name)
        if values and len(values) != len(args.runs):
            raise cli.UsageError(f"{len(args.runs)} runs need as many --{name}, got {len(values)}")
    labels = args.labels or [run.name for run in args.runs]
    if len(set(labels)) < len(labels):
        if args.labels:
            raise cli.UsageError(f"--labels must differ, got {' '.join(labels)}")
        labels = [str(run) for run in args.runs]
    starts = args.start or [0] * len(args.runs)
    curves = [read_curves(run, start) for run, start in zip(args.runs, starts, strict=True)]
    keys = args.keys or default_keys(curves)
    check_keys(keys, curves)
    draw(keys, dict(zip(labels, curves, strict=True)), args.smooth, args.out)
    yield f"{args.out}: {len(keys)} panels, {len(labels)} runs"


main = cli.Command(build_parser, run)
