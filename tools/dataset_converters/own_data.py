"""Make a COCO-panoptic dataset from your own annotations.

From label maps and instance maps (PNG), mask folders, labelme files, COCO instance and stuff JSONs
(as CVAT and Roboflow export them), or several of these, whose labels are put together image by
image. Written: OUT/annotations/panoptic_<split>.json and the PNG folder of that name; images stay
where they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic.datasets.converters.class_list import HELP, ClassList, read_class_list
from mmpanoptic.datasets.converters.cli import make_parser, report
from mmpanoptic.datasets.converters.label_items import ImageFinder, LabelSet
from mmpanoptic.datasets.converters.masks_to_panoptic import background_label
from mmpanoptic.datasets.converters.next_commands import describe_commands
from mmpanoptic.datasets.converters.own_coco import CROWDS, CocoOptions, read_coco_labels
from mmpanoptic.datasets.converters.own_data import (
    PaintOptions,
    convert_own_data,
    describe_unlabelled,
    list_jobs,
    merge_labels,
    refuse_output,
    refuse_problems,
)
from mmpanoptic.datasets.converters.own_labelme import read_labelme_labels
from mmpanoptic.datasets.converters.own_maps import MapOptions, read_map_labels
from mmpanoptic.datasets.converters.own_masks import read_mask_labels
from mmpanoptic.datasets.converters.painting import OVERLAP_RULES
from mmpanoptic.datasets.converters.splits import split_at_random, split_by_lists
from mmpanoptic.utils.format_errors import problems_reported

TOOLS = Path(__file__).resolve().parents[1]

EXAMPLES = f"""
  %(prog)s data/mine --classes classes.yaml --images data/mine/images --val 2 \\
      --labels data/mine/labels --instances data/mine/instances
  %(prog)s data/mine --classes classes.yaml --images photos --labelme photos --background ground
  %(prog)s data/mine --classes classes.yaml --images photos --coco instances.json --val 0.2
  %(prog)s data/mine --classes classes.yaml --images photos --coco instances.json stuff.json \\
      --ignore-category other --split-list val=val.txt
  %(prog)s data/cells --classes classes.yaml --images stage1 --masks stage1 --background back

{HELP}
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="folder of the dataset, outside of --images")
    add("--classes", type=Path, required=True, help="class list, see below")
    add("--images", type=Path, required=True, help="folder of the images")
    add_sources(parser)
    masks = parser.add_argument_group("with polygons and masks").add_argument
    masks("--background", help="stuff class of pixels without a label (default: void)")
    masks(
        "--overlap",
        choices=OVERLAP_RULES,
        default=OVERLAP_RULES[0],
        help="which of two overlapping ones is on top (default: %(default)s)",
    )
    add("--split", default="train", help="name of the split (default train)")
    add("--val", type=float, help="images (or share below 1) for the split val; default 0")
    add("--seed", type=int, default=0, help="chooses the val images; default 0")
    add(
        "--split-list",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="images of a split: names in a text file, CSV or JSON (also a COCO file); others go "
        "to --split",
    )
    add("--report", type=Path, metavar="JSON", help="write all problems here, too")
    args = parser.parse_args(argv)
    check_options(parser, args)
    return args


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the options that name labels and say what they mean."""
    sources = parser.add_argument_group("labels, at least one").add_argument
    sources("--labels", type=Path, help="folder of label maps (8 or 16-bit PNG)")
    sources("--labelme", type=Path, nargs="+", default=[], help="folders of labelme files")
    sources("--coco", type=Path, nargs="+", default=[], help="COCO instance or stuff JSONs")
    sources("--masks", type=Path, help="folder with NAME/masks/*.png, one for each instance")
    maps = parser.add_argument_group("with --labels").add_argument
    maps("--instances", type=Path, help="folder of instance maps; 0 = no instance")
    maps(
        "--components",
        action="store_true",
        help="each connected region of a thing class is one instance",
    )
    maps(
        "--zero-is-crowd",
        action="store_true",
        help="thing pixels without an instance are crowd instead of void",
    )
    for name in ("image", "label", "instance"):
        text = f"end of the {name} names before the extension, such as _{name}"
        maps(f"--{name}-suffix", default="", help=text)
    coco = parser.add_argument_group("with --coco").add_argument
    coco(
        "--ignore-category",
        nargs="+",
        default=[],
        metavar="C",
        help="categories (ids or names) that are void, such as COCO-Stuff's 183, other",
    )
    coco(
        "--crowds",
        choices=CROWDS,
        default=CROWDS[0],
        help="what iscrowd 1 becomes: a crowd segment (default), an instance (CVAT writes masks "
        "of its brush as crowds), or void",
    )


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that would do nothing."""
    if not (args.labels or args.labelme or args.coco or args.masks):
        parser.error("name the labels: --labels, --labelme, --coco or --masks")
    needs = {
        "--labels": (args.labels, "instances components zero_is_crowd image_suffix label_suffix"),
        "--coco": (args.coco, "ignore_category"),
        "--coco, --labelme or --masks": (args.coco or args.labelme or args.masks, "background"),
    }
    for source, (given, names) in needs.items():
        for name in names.split():
            if getattr(args, name) and not given:
                parser.error(f"--{name.replace('_', '-')} does something with {source} only")
    if args.crowds != CROWDS[0] and not args.coco:
        parser.error("--crowds does something with --coco only")
    if args.split_list and args.val is not None:
        parser.error("--val chooses at random, --split-list by name: give one of them")
    for text in args.split_list:
        if "=" not in text:
            parser.error(f"--split-list needs NAME=FILE, such as val=val.txt, got {text!r}")


def read_labels(
    args: argparse.Namespace, classes: ClassList, finder: ImageFinder, maps: MapOptions | None
) -> Iterator[LabelSet]:
    """Read the labels of all sources."""
    if maps is not None:
        yield read_map_labels(finder, classes, maps)
    if args.coco:
        options = CocoOptions(args.crowds, tuple(args.ignore_category))
        yield read_coco_labels(args.coco, finder, classes, options)
    if args.labelme:
        yield read_labelme_labels(args.labelme, finder, classes)
    if args.masks:
        yield read_mask_labels(args.masks, finder, classes)


def convert(args: argparse.Namespace) -> list[object]:
    """Convert what the arguments name; return what to print."""
    refuse_output(args.out, args.images)
    classes, finder = read_class_list(args.classes), ImageFinder(args.images)
    maps = None
    if args.labels:
        suffixes = (args.image_suffix, args.label_suffix, args.instance_suffix)
        flags = (args.components, args.zero_is_crowd)
        maps = MapOptions(args.labels, args.instances, *suffixes, *flags)
    background = background_label(classes.table, args.background) if args.background else None
    options = PaintOptions(classes, args.overlap, background, maps)
    labels = merge_labels(read_labels(args, classes, finder, maps))
    jobs = list_jobs(labels, finder)
    refuse_problems(labels, jobs, args.nproc)
    names = [job.key.removesuffix(".png") for job in jobs]
    if args.split_list:
        lists = {name: Path(file) for name, _, file in (t.partition("=") for t in args.split_list)}
        splits = split_by_lists(names, lists, args.split, finder)
    else:
        splits = split_at_random(names, args.split, args.val or 0, args.seed)
    info = {"crowds": args.crowds, "ignore_category": args.ignore_category}
    info.update(maps.to_info() if maps else {})
    summaries = convert_own_data(jobs, options, args.out, splits, info, args.nproc)
    commands = describe_commands(TOOLS, args.out, args.images, list(splits))
    return [*summaries, *describe_unlabelled(labels, finder), commands]


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was done; return the exit status."""
    args = parse_args(argv)

    def work() -> list[object]:
        with problems_reported(args.report):
            return convert(args)

    return report(work)


if __name__ == "__main__":
    sys.exit(main())
