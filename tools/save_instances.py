#!/usr/bin/env python
"""Save SOLOv2's instances (masks, classes, scores, mask logits), one file per image."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmpanoptic.apis.offline_fusion import save_instances
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.utils.cfg_options import ConfigOptions
from mmpanoptic.utils.format_errors import PanopticFormatError

EXAMPLES = """examples:
  %(prog)s solov2-light_r34_1xb2-60k_cityscapes CHECKPOINT instances/
  %(prog)s CONFIG CHECKPOINT instances/ --images photos/ --no-logits

written: OUT/IMAGE_ID.npz for every image of the config's test dataset, or of --images.
tools/fuse_saved_instances.py fuses them with a semantic model.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("checkpoint", metavar="CHECKPOINT", help="weights")
    add("out", metavar="OUT", help="folder for the files")
    add("--images", metavar="IMAGE_OR_FOLDER", help="default: the config's test dataset")
    add(
        "--no-logits",
        action="store_true",
        help="leave the mask logits out: smaller files, and fusion can only use binary masks",
    )
    add("--device", help="cpu, cuda, cuda:N (default: cuda if there is one)")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    add("--trust", action="store_true", help="accept checkpoints of mmengine, mmdet and mmseg")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Save; return the exit status."""
    args = parse_args(argv)
    try:
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
    except (CheckpointError, PanopticFormatError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"instances of {count} images saved in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
