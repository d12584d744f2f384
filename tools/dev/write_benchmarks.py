"""Write the tables of docs/benchmarks.md and the bars of the README from what was measured."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.utils import atomic_write, read_json, write_json

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = """
  tools/analysis_tools/benchmark_parts.py pdl_step pdl_targets --json parts.json
  %(prog)s parts.json && tools/dev/draw_benchmarks.py
"""
ROWS = {
    "pdl_step[r52]": (
        "training step of Panoptic-DeepLab R-52, 2 x 256x512", "detectron2's procedure"
    ),
    "pdl_step[r18-tiny]": ("that of the demo's model, 8 x 128x192", "detectron2's procedure"),
    "pdl_network[r52]": (
        "network of Panoptic-DeepLab R-52, 1 x 512x1024, `fuse=True`", "detectron2's procedure"
    ),
    "pdl_network[r18-tiny]": ("that of the demo, 1 x 256x256, `fuse=True`", "unfused"),
    "pdl_targets[512x1024]": (
        "targets of Panoptic-DeepLab, 2 x 512x1024", "the published generator"
    ),
    "pdl_targets[1024x2048]": ("the same, 2 x 1024x2048", "the published generator"),
    "pdl_targets[640x640]": ("the same, 2 x 640x640, 133 classes", "the published generator"),
    "pq_files[coco]": ("PQ of 24 pairs of files, 640x480", "the published procedure"),
    "pq_files[cityscapes]": ("PQ of 4 pairs of files, 2048x1024", "the published procedure"),
    "pq_files[coco panopticapi]": (
        "PQ of 24 pairs of files, 640x480", "panopticapi-lite 0.2.0, one process"
    ),
    "pq_files[coco hotcoco]": ("the same, as many threads as processors", "hotcoco 1.3.0 (Rust)"),
    "pq_files[coco process]": (
        "PQ of 192 pairs of files, 640x480, whole process", "hotcoco 1.3.0, whole process"
    ),
    "pq_files[cityscapes process]": (
        "the same, 32 pairs of 2048x1024", "hotcoco 1.3.0, whole process"
    ),
    "decode_png[coco]": ("reading panoptic PNGs of 640x480", "`cv2.imread`, sum of channels"),
    "decode_png[cityscapes]": ("the same, 2048x1024", "`cv2.imread`, sum of channels"),
    "open_annotations": ("opening an annotation file, checked", "`json.load` alone"),
    "open_annotations[cached]": ("the same, again, from the cache", "`json.load` alone"),
    "start[eval]": ("`mmpanoptic eval panoptic --help`", "importing torch and mmengine"),
    "start[check]": ("`mmpanoptic check --help`", "importing torch and mmengine"),
    "start[train]": ("`mmpanoptic train --help`", "importing torch and mmengine"),
}  # fmt: skip
"""By the label of a part: what is measured, and against what."""
BARS = (
    "pdl_targets[512x1024]",
    "pq_files[coco panopticapi]",
    "pdl_step[r52]",
    "pq_files[coco process]",
)
HEADER = (
    "work",
    "against",
    "ratio of clocks",
    "of processor time",
    "seconds: theirs, ours",
    "threads",
    "command",
)
MARKS = ("<!-- measured -->", "<!-- /measured -->")


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("measured", nargs="+", type=Path, help="JSON of benchmark_parts.py")
    parser.add("--page", type=Path, default=DOCS / "benchmarks.md", metavar="FILE")
    parser.add("--bars", type=Path, default=DOCS / "benchmarks.json", metavar="FILE")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Replace what stands between the marks of the page, and the bars.

    Raises:
        UsageError: If a bar was not measured, or the page has no marks.
    """
    found = [read_json(path) for path in args.measured]
    parts = {part["part"]: (part, one) for one in found for part in one["parts"]}
    lacking = [name for name in BARS if name not in parts]
    if lacking:
        raise cli.UsageError(f"{', '.join(lacking)} of the README's bars were not measured")
    pattern = re.compile(f"{MARKS[0]}.*{MARKS[1]}", re.DOTALL)
    page, text = args.page, args.page.read_text(encoding="utf-8")
    if not pattern.search(text):
        raise cli.UsageError(f"{page} lacks the marks {' and '.join(MARKS)}")
    lines = [MARKS[0], *describe(found), "", *table(parts), MARKS[1]]
    with atomic_write(page) as temporary:
        temporary.write_text(pattern.sub(lambda _: "\n".join(lines), text), encoding="utf-8")
    write_json(args.bars, [bar(name, parts[name][0]) for name in BARS], indent=1)
    yield f"{page}: {len(lines) - 6} rows; {args.bars}: {len(BARS)} bars"


def describe(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the machine and the day."""
    machine = ", ".join(f"{key} {value}" for key, value in found[0]["machine"].items())
    return [f"Measured on {time.strftime('%d %B %Y')}: {machine}."]


def table(parts: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """Write a row for each part that is known, in the order of :data:`ROWS`."""
    lines = [
        f"| {' | '.join(HEADER)} |",
        "|---" * len(HEADER) + "|",
    ]
    for name, (work, against) in ROWS.items():
        if name not in parts:
            continue
        part, settings = parts[name]
        both = ", ".join(f"{part['seconds'][who]:.3g}" for who in ("baseline", "ours"))
        lines.append(
            f"| {work} | {against} | {part['ratio']:.2f} | {part['cpu_ratio']:.2f} | {both} | "
            f"{settings['threads']} | `benchmark_parts.py {name.partition('[')[0]}` |"
        )
    return lines


def bar(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Make a bar of the README's picture."""
    work, against = ROWS[name]
    command = f"benchmark_parts.py {name.partition('[')[0]}"
    return {"work": work, "against": against, "ratio": round(part["ratio"], 2), "command": command}


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
