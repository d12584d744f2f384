"""Generate the shapes dataset: textured regions and layered things, in COCO-panoptic format."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from mmpanoptic import cli
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes

EXAMPLES = """
  %(prog)s data/shapes
  %(prog)s data/shapes_large --train 2000 --val 200 --size 480 640 --nproc 8

The same seed gives the same images, whatever --nproc, --train and --val are.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    at_least = cli.at_least
    parser.add("out", metavar="OUT", help="folder of the dataset; made if missing")
    parser.add("--train", type=at_least(1), default=400, help="number of images (default 400)")
    parser.add("--val", type=at_least(1), default=100, help="number of images (default 100)")
    # The last version took WIDTHxHEIGHT.
    parser.take(
        "size", nargs="+", type=str, default=["128", "192"], help="of an image (default 128 192)"
    )
    parser.add("--seed", type=at_least(0), default=0, help="0 or more (default 0)")
    parser.take("nproc")
    return parser


def read_size(words: Sequence[str]) -> tuple[int, int]:
    """Read ``H W``, or the last version's ``WIDTHxHEIGHT``.

    Returns:
        tuple[int, int]: Height and width.

    Raises:
        UsageError: If the words are neither.
    """
    match = re.fullmatch(r"(\d+) (\d+)|(\d+)x(\d+)", " ".join(words))
    if not match:
        raise cli.UsageError(f"--size takes height and width, such as 128 192, got {words}")
    height, width = (match[1], match[2]) if match[1] else (match[4], match[3])
    return int(height), int(width)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Generate what is missing and say what there is."""
    height, width = read_size(args.size)
    settings = ShapesSettings(width, height, seed=args.seed)
    counts = {"train": args.train, "val": args.val}
    for done in generate_shapes(args.out, counts, settings, args.nproc, show_progress=True):
        yield f"{done.split}: {done.images} images ({done.drawn} drawn now), {done.annotation}"


main = cli.Command(build_parser, run)
