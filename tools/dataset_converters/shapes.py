"""Generate the shapes dataset: textured regions and layered things, in COCO-panoptic format."""

from __future__ import annotations

import argparse
import re
import sys
import time

from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.utils.jobs import default_nproc

EXAMPLES = """examples:
  %(prog)s data/shapes
  %(prog)s data/shapes_large --train 2000 --val 200 --size 640x480 --nproc 8

A run that was stopped goes on where it was. The same seed gives the same images, whatever
--nproc, --train and --val are.
"""


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 192x128, got {text!r}")
    return int(match[1]), int(match[2])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", help="folder of the dataset; made if missing")
    parser.add_argument("--train", type=int, default=400, help="number of images (default 400)")
    parser.add_argument("--val", type=int, default=100, help="number of images (default 100)")
    parser.add_argument(
        "--size", type=parse_size, default=(192, 128), help="WIDTHxHEIGHT (default 192x128)"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default 0)")
    parser.add_argument(
        "--nproc", type=int, default=default_nproc(), help="processes (default: all cores)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Generate what is missing and say what there is; return the exit status."""
    args = parse_args(argv)
    start = time.perf_counter()
    try:
        settings = ShapesSettings(*args.size, seed=args.seed)
        counts = {"train": args.train, "val": args.val}
        reports = generate_shapes(args.out, counts, settings, args.nproc, show_progress=True)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for report in reports:
        print(
            f"{report.split}: {report.images} images ({report.drawn} drawn now), "
            f"{report.annotation}"
        )
    print(f"took {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
