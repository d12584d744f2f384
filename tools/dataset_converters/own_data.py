"""Make a COCO-panoptic dataset from your own annotations.

From label maps and instance maps (PNG), labelme files, or a COCO instance JSON (as CVAT exports
it). Written: OUT/annotations/panoptic_<split>.json and the PNG folder of that name; images stay
where they are.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.datasets.converters.class_list import HELP, ClassList, read_class_list
from mmpanoptic.datasets.converters.incremental import Job, Summary
from mmpanoptic.datasets.converters.masks_to_panoptic import background_label
from mmpanoptic.datasets.converters.own_data import (
    MapFolders,
    convert_own_data,
    map_function,
    map_jobs,
    split_jobs,
)
from mmpanoptic.datasets.converters.own_polygons import (
    coco_jobs,
    labelme_jobs,
    read_coco,
    read_labelme,
)
from mmpanoptic.datasets.converters.painting import OVERLAP_RULES

EXAMPLES = f"""
  %(prog)s data/mine --classes classes.yaml --images data/mine/images --val 2 \\
      --labels data/mine/labels --instances data/mine/instances
  %(prog)s data/mine --classes classes.yaml --images photos --labelme photos --background ground
  %(prog)s data/mine --classes classes.yaml --images photos --coco instances.json --val 0.2

{HELP}
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("out", type=Path, metavar="OUT", help="folder of the dataset")
    parser.add("--classes", type=Path, required=True, help="class list, see below")
    parser.add("--images", type=Path, required=True, help="folder of the images")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--labels", type=Path, help="folder of label maps (8 or 16-bit PNG)")
    source.add_argument("--labelme", type=Path, help="folder of labelme files")
    source.add_argument("--coco", type=Path, help="COCO instance JSON")
    parser.add(
        "--instances", type=Path, help="with --labels: folder of instance maps; 0 = no instance"
    )
    parser.add(
        "--components",
        action="store_true",
        help="with --labels: each connected region of a thing class is one instance",
    )
    parser.add(
        "--zero-is-crowd",
        action="store_true",
        help="with --labels: thing pixels without an instance are crowd instead of void",
    )
    for name in ("image", "label", "instance"):
        text = f"end of the {name} names before the extension, such as _{name}"
        parser.add(f"--{name}-suffix", default="", help=text)
    parser.add(
        "--background", help="with polygons: stuff class of pixels without one (default: void)"
    )
    parser.add(
        "--overlap",
        choices=OVERLAP_RULES,
        default="last",
        help="with polygons: which of two overlapping ones is on top (default: the last)",
    )
    parser.add("--split", default="train", help="name of the split (default train)")
    parser.add(
        "--val",
        type=float,
        default=0,
        help="images (or share below 1) for the split val; default 0",
    )
    parser.add("--seed", type=int, default=0, help="chooses the val images; default 0")
    parser.take("nproc")
    return parser


def run(args: argparse.Namespace) -> list[object]:
    """Convert what the arguments name."""
    return [*convert(args), describe_config(args)]


def convert(args: argparse.Namespace) -> list[Summary]:
    """Convert the maps or the polygons."""
    classes = read_class_list(args.classes)
    if args.labels:
        folders = MapFolders(
            args.images,
            args.labels,
            args.instances,
            args.image_suffix,
            args.label_suffix,
            args.instance_suffix,
        )
        jobs = map_jobs(folders, classes, args.components)
        function = map_function(classes, args.zero_is_crowd, args.components)
        info = {"zero_is_crowd": args.zero_is_crowd, "components": args.components}
        return write(args, classes, jobs, function, info)
    background = background_label(classes.table, args.background) if args.background else None
    if args.labelme:
        jobs, reader = labelme_jobs(args.labelme, args.images), read_labelme
    else:
        jobs, reader = coco_jobs(args.coco, args.images, classes), read_coco
    function = partial(reader, classes, args.overlap, background)
    info = {"overlap": args.overlap, "background": args.background}
    return write(args, classes, jobs, function, info)


def write(
    args: argparse.Namespace,
    classes: ClassList,
    jobs: Sequence[Job],
    function: Callable[[Job], dict[str, Any]],
    info: dict[str, Any],
) -> list[Summary]:
    """Write the splits."""
    splits = split_jobs(jobs, args.split, args.val, args.seed)
    return convert_own_data(jobs, function, classes, args.out, splits, info, args.nproc)


def describe_config(args: argparse.Namespace) -> str:
    """Say which variables of a config for own data lead to the files."""
    images = Path(os.path.relpath(args.images, args.out)).as_posix()
    splits = [args.split, "val"] if args.val else [args.split]
    values = [f"data_root={args.out}", *(f"{split}_img={images}/" for split in splits)]
    return f"config: --cfg-options {shlex.join(values)}"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
