"""Save SOLOv2's instances (masks, classes, scores, mask logits), one file per image."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s solov2-light_r34_1xb2-60k_cityscapes CHECKPOINT instances/
  %(prog)s CONFIG CHECKPOINT instances/ --images photos/ --no-logits

written: OUT/IMAGE_ID.npz for every image of the config's test dataset, or of --images.
tools/fuse_saved_instances.py fuses them with a semantic model.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "checkpoint")
    parser.add("out", metavar="OUT", help="folder for the files")
    parser.add("--images", metavar="IMAGE_OR_FOLDER", help="default: the config's test dataset")
    parser.add(
        "--no-logits",
        action="store_true",
        help="leave the mask logits out: smaller files, and fusion can only use binary masks",
    )
    parser.take("device", "cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Save the instances of every image."""
    from mmpanoptic.apis.offline_fusion import save_instances

    cli.complete_model(args)
    count = save_instances(
        args.config,
        args.checkpoint,
        args.out,
        args.images,
        not args.no_logits,
        args.device,
        args.cfg_options,
        args.trust,
    )
    yield f"instances of {count} images saved in {args.out}"


main = cli.Command(build_parser, run)
