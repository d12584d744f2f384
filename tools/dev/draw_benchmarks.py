"""Draw the bars of the README and the curves of docs/benchmarks.md from their JSON files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.utils import atomic_write, read_json

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = """
  tools/analysis_tools/benchmark_curves.py --json docs/curves.json && %(prog)s
"""
PANELS = {
    "PQ of files": ["pq"],
    "post-processing, 1024x2048": "_instances",
    "post-processing, 40 instances": "_pixels",
    "multiway cut": ["amwc"],
    "opening annotations": ["opening"],
    "training step, 2 images": ["training"],
}
"""Curves of a panel: their names, or what they end with."""
ROW, LEFT, RIGHT, LEAST, MOST = 40, 400, 760, 0.5, 20.0
"""Pixels of the bars, and the ratios at their two ends; lengths are logarithms."""
NOTE = "processor time, theirs by ours (logarithmic)"


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--bars", type=Path, default=DOCS / "benchmarks.json", metavar="FILE")
    parser.add("--curves", type=Path, default=DOCS / "curves.json", metavar="FILE")
    parser.add("--out-dir", type=Path, default=DOCS / "images", metavar="FOLDER")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Draw both pictures."""
    bars, curves = args.out_dir / "benchmark_bars.svg", args.out_dir / "cost_curves.svg"
    with atomic_write(bars) as temporary:
        temporary.write_text(draw_bars(read_json(args.bars)), encoding="utf-8")
    draw_curves(read_json(args.curves)["curves"], curves)
    yield f"{bars}\n{curves}"


def draw_bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write an SVG of one bar a row, to the right of 1 where ours is faster."""
    from math import log

    def place(ratio: float) -> float:
        share = log(min(max(ratio, LEAST), MOST) / LEAST) / log(MOST / LEAST)
        return LEFT + share * (RIGHT - LEFT)

    height, one = ROW * (len(rows) + 1), place(1)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{RIGHT + 50}" height="{height}" '
            'font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{RIGHT + 50}" height="{height}" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        y, end = ROW * number + 6, place(row["ratio"])
        color = "#2ea44f" if row["ratio"] >= 1 else "#bf8700"
        labels = (escape(text) for text in (row["work"], f"against {row['against']}"))
        lines += [
            *(
                f'<text x="{LEFT - 10}" y="{y + 8 + 15 * line}" text-anchor="end">{label}</text>'
                for line, label in enumerate(labels)
            ),
            (
                f'<rect x="{min(one, end):.1f}" y="{y}" width="{abs(end - one):.1f}" height="18" '
                f'fill="{color}"/>'
            ),
            f'<text x="{max(one, end) + 5:.1f}" y="{y + 14}">{row["ratio"]:g}</text>',
        ]
    bottom = ROW * len(rows)
    lines += [
        f'<line x1="{one:.1f}" y1="0" x2="{one:.1f}" y2="{bottom}" stroke="black"/>',
        f'<text x="{one:.1f}" y="{bottom + 18}" text-anchor="middle">{NOTE}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def draw_curves(curves: Mapping[str, Any], path: Path) -> None:
    """Draw a panel for each kind of size, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    # Equal figures shall give equal files.
    mpl.rcParams.update({"svg.hashsalt": "mmpanoptic", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5), constrained_layout=True)
    for axis, (title, wanted) in zip(axes.flat, PANELS.items(), strict=True):
        names = [
            n for n in curves if (n.endswith(wanted) if isinstance(wanted, str) else n in wanted)
        ]
        for name in names:
            points = curves[name]["points"]
            label = f"{curves[name]['title'].partition(',')[0]}: n^{curves[name]['exponent']:.2f}"
            sizes, seconds = ([p[key] for p in points] for key in ("size", "cpu_seconds"))
            axis.plot(sizes, seconds, marker="o", markersize=3, label=label)
        axis.set(xscale="log", yscale="log", title=title, ylabel="processor time, s")
        axis.set_xlabel(curves[names[0]]["axis"] if names else "")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    pyplot.close(figure)


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
