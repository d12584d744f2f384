#!/usr/bin/env python
"""Segment an image or all images of a folder: panoptic PNGs, COCO-panoptic JSON, overlays."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmpanoptic.apis import PanopticInferencer, PanopticResult
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.utils.cfg_options import ConfigOptions
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.visualization import DrawStyle

EXAMPLES = """examples:
  %(prog)s street.jpg work_dirs/demo/config.py work_dirs/demo/last.pth
  %(prog)s photos/ CONFIG CHECKPOINT --out-dir out --no-overlay --batch-size 4

CONFIG is a file or the name of a shipped config. It is Python and gets executed: use only those
you trust. The classes come from the checkpoint; no dataset is needed.

written: OUT/panoptic.json and OUT/panoptic/NAME.png (ids, R + 256 G + 65536 B, 0 = void),
         OUT/overlay/NAME.png; with --heads OUT/heads/NAME_center.png and NAME_offset.png, or of
         COPS NAME_class_cost.png, NAME_component.png, and of each distance d
         NAME_cost_{d}_row.png, NAME_cost_{d}_column.png and NAME_cut_{d}.png, and all of them on
         NAME_sheet.png
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("image", metavar="IMAGE_OR_FOLDER", help="an image, or a folder (with sub-folders)")
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("checkpoint", metavar="CHECKPOINT", help="weights")
    add("--out-dir", type=Path, default=Path("outputs"), help="default: outputs")
    add("--device", help="cpu, cuda, cuda:N (default: cuda if there is one)")
    add("--batch-size", type=int, default=1, help="images to run at once (default 1)")
    add("--no-overlay", action="store_true", help="do not draw")
    add(
        "--heads",
        action="store_true",
        help="also draw centre heatmap and offsets (Panoptic-DeepLab; the hue is the direction to "
        "the centre, the saturation the distance) or costs, cuts and components (COPS; blue edges "
        "attract, red ones repel)",
    )
    add("--alpha", type=float, default=DrawStyle.alpha, help="weight of the overlay's fill, 0 to 1")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    add("--trust", action="store_true", help="accept checkpoints of mmengine, mmdet and mmseg")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Segment, write, and say what was found; 1 if anything failed."""
    args = parse_args(argv)
    problems: list[PanopticFormatError] = []
    try:
        count = segment(args, problems)
    except (CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(f"{count} images done, {len(problems)} left out; results in {args.out_dir}")
    return 1 if problems else 0


def segment(args: argparse.Namespace, problems: list[PanopticFormatError]) -> int:
    """Run over the images; return how many there were."""
    style = DrawStyle(alpha=args.alpha)
    inferencer = PanopticInferencer(
        args.config, args.checkpoint, args.device, args.cfg_options, args.trust, args.heads
    )
    results = inferencer.iterate(
        args.image, args.batch_size, out_dir=args.out_dir, problems=problems
    )
    count, start = 0, time.perf_counter()
    for result in results:
        if not args.no_overlay:
            result.save_overlay(args.out_dir / "overlay" / f"{result.name}.png", style)
        if args.heads:
            result.save_heads(args.out_dir / "heads")
        print(f"{describe(result)}  ({time.perf_counter() - start:.2f} s)")
        count, start = count + 1, time.perf_counter()
    return count


def describe(result: PanopticResult) -> str:
    """Summarise a result in a line, as in ``a: 3 car, 1 road``."""
    names = [segment["name"] for segment in result.segments_info]
    counts = [f"{names.count(name)} {name}" for name in dict.fromkeys(names)]
    return f"{result.name}: {', '.join(counts) or 'nothing found'}"


if __name__ == "__main__":
    sys.exit(main())
