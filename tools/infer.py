#!/usr/bin/env python
"""Segment images, folders of images and videos: panoptic PNGs, COCO-panoptic JSON, overlays."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.apis import PanopticResult
    from mmpanoptic.utils.format_errors import PanopticFormatError

EXAMPLES = """
  %(prog)s street.jpg work_dirs/demo/config.py work_dirs/demo/last.pth
  %(prog)s photos/ CONFIG CHECKPOINT --out-dir out --no-overlay --batch-size 4

CONFIG is a file or the name of a shipped config. It is Python and gets executed: use only those
you trust. The classes come from the checkpoint; no dataset is needed.

A frame of street.mp4 is called street/000001.

written: OUT/panoptic.json and OUT/panoptic/NAME.png (ids, R + 256 G + 65536 B, 0 = void),
         OUT/overlay/NAME.png; with --heads OUT/heads/NAME_center.png and NAME_offset.png, or of
         COPS NAME_class_cost.png, NAME_component.png, and of each distance d
         NAME_cost_{d}_row.png, NAME_cost_{d}_column.png and NAME_cut_{d}.png, and all of them on
         NAME_sheet.png
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("image", metavar="INPUT", help="an image, a video, or a folder (with sub-folders)")
    parser.take("config", "checkpoint", "device", "batch_size")
    parser.add("--out-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add("--no-overlay", action="store_true", help="do not draw")
    parser.add(
        "--heads",
        action="store_true",
        help="also draw centre heatmap and offsets (Panoptic-DeepLab; the hue is the direction to "
        "the centre, the saturation the distance) or costs, cuts and components (COPS; blue edges "
        "attract, red ones repel)",
    )
    parser.add("--alpha", type=cli.at_least(0, float), help="weight of the overlay's fill, 0 to 1")
    parser.take("cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Segment, write, and say what was found.

    Raises:
        Failure: If images were left out.
    """
    from mmpanoptic.apis import PanopticInferencer
    from mmpanoptic.visualization import DrawStyle

    style = DrawStyle() if args.alpha is None else DrawStyle(alpha=args.alpha)
    inferencer = PanopticInferencer(
        args.config, args.checkpoint, args.device, args.cfg_options, args.trust, args.heads
    )
    problems: list[PanopticFormatError] = []
    results = inferencer.iterate(
        args.image, args.batch_size, out_dir=args.out_dir, problems=problems
    )
    count, start = 0, time.perf_counter()
    for result in results:
        if not args.no_overlay:
            result.save_overlay(args.out_dir / "overlay" / f"{result.name}.png", style)
        if args.heads:
            result.save_heads(args.out_dir / "heads")
        yield f"{describe(result)}  ({time.perf_counter() - start:.2f} s)"
        count, start = count + 1, time.perf_counter()
    yield f"{count} images done, {len(problems)} left out; results in {args.out_dir}"
    if problems:
        raise cli.Failure("left out: " + "\nleft out: ".join(map(str, problems)))


def describe(result: PanopticResult) -> str:
    """Summarise a result in a line, as in ``a: 3 car, 1 road``."""
    names = [segment["name"] for segment in result.segments_info]
    counts = [f"{names.count(name)} {name}" for name in dict.fromkeys(names)]
    return f"{result.name}: {', '.join(counts) or 'nothing found'}"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
