"""Make a COCO-panoptic dataset from your own annotations.

From label maps and instance maps (PNG), mask folders, labelme files, COCO instance and stuff JSONs
(as CVAT and Roboflow export them), YOLO, VOC, CVAT and Label Studio files, or several of these,
whose labels are put together image by image. Written: OUT/annotations/panoptic_<split>.json and
the PNG folder of that name; images stay where they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli
from mmpanoptic.datasets.converters.class_list import HELP, ClassList, read_class_list
from mmpanoptic.datasets.converters.label_items import ImageFinder, LabelSet
from mmpanoptic.datasets.converters.masks_to_panoptic import background_label
from mmpanoptic.datasets.converters.next_commands import describe_commands
from mmpanoptic.datasets.converters.own_coco import CROWDS, CocoOptions, read_coco_labels
from mmpanoptic.datasets.converters.own_data import (
    PaintOptions,
    convert_own_data,
    describe_unmatched,
    list_jobs,
    merge_labels,
    refuse_output,
    refuse_problems,
    write_whole_things,
)
from mmpanoptic.datasets.converters.own_foreign import read_voc_labels, read_yolo_labels
from mmpanoptic.datasets.converters.own_labelme import read_labelme_labels
from mmpanoptic.datasets.converters.own_maps import MapOptions, read_map_labels
from mmpanoptic.datasets.converters.own_masks import read_mask_labels
from mmpanoptic.datasets.converters.own_programs import read_cvat_labels, read_label_studio_labels
from mmpanoptic.datasets.converters.painting import OVERLAP_RULES
from mmpanoptic.datasets.converters.splits import split_at_random, split_by_lists
from mmpanoptic.utils.format_errors import problems_reported

OVERLAPS = tuple(rule for rule in OVERLAP_RULES if rule != "score")
"""Own labels have no scores."""

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


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES, resumes=True)
    parser.add("out", type=Path, metavar="OUT", help="folder of the dataset, outside of --images")
    parser.add("--classes", type=Path, required=True, help="class list, see below")
    parser.add("--images", type=Path, required=True, help="folder of the images")
    add_sources(parser)
    masks = parser.add_argument_group("with polygons and masks").add_argument
    masks("--background", help="stuff class of pixels without a label (default: void)")
    masks(
        "--overlap",
        choices=OVERLAPS,
        help=f"which of two overlapping ones is on top, or error (default: {OVERLAPS[0]})",
    )
    masks(
        "--whole-things",
        action="store_true",
        help="also write annotations/instances_SPLIT.json: things with their whole masks, which "
        "coco_relations.py reads",
    )
    parser.add("--split", default="train", help="name of the split (default train)")
    parser.add("--val", type=float, help="images (or share below 1) for the split val; default 0")
    parser.add("--seed", type=int, default=0, help="chooses the val images; default 0")
    parser.add(
        "--split-list",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="images of a split: names in a text file, CSV or JSON (also a COCO file); others go "
        "to --split",
    )
    parser.add("--report", type=Path, metavar="JSON", help="write all problems here, too")
    parser.take("nproc")
    return parser


def add_sources(parser: cli.Parser) -> None:
    """Add the options that name labels and say what they mean."""
    sources = parser.add_argument_group("labels, at least one").add_argument
    sources("--labels", type=Path, help="folder of label maps (8 or 16-bit PNG)")
    sources("--labelme", type=Path, nargs="+", default=[], help="folders of labelme files")
    sources("--coco", type=Path, nargs="+", default=[], help="COCO instance or stuff JSONs")
    sources("--masks", type=Path, help="folder with NAME/masks/*.png, one for each instance")
    sources("--yolo", type=Path, metavar="YAML", help="class names of YOLO segmentation labels")
    sources("--voc", type=Path, nargs="+", default=[], help="folders of VOC XML with polygons")
    sources("--cvat", type=Path, metavar="XML", help="CVAT for images 1.1")
    sources("--label-studio", type=Path, metavar="JSON", help="export of Label Studio (polygons)")
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


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: Naming one.
    """
    shapes = [args.labelme, args.coco, args.masks, args.yolo, args.voc, args.cvat]
    painted = any([*shapes, args.label_studio])
    if not args.labels and not painted:
        raise cli.UsageError(
            "the labels are missing: name --labels, --labelme, --coco, --masks, --yolo, --voc, "
            "--cvat or --label-studio"
        )
    needs = {
        "--labels": (args.labels, "instances components zero_is_crowd image_suffix label_suffix"),
        "--instances": (args.instances, "instance_suffix"),
        "--coco": (args.coco, "ignore_category"),
        "polygons and masks": (painted, "background overlap whole_things"),
        "--val": (args.val, "seed"),
    }
    for source, (given, names) in needs.items():
        for name in names.split():
            if getattr(args, name) and not given:
                option = name.replace("_", "-")
                raise cli.UsageError(f"--{option} does something with {source} only")
    if args.components and args.instances:
        raise cli.UsageError("--components is for label maps without --instances: give one of them")
    if args.whole_things and args.labels:
        raise cli.UsageError("--whole-things: label maps hold no masks that overlap; leave it out")
    if args.crowds != CROWDS[0] and not args.coco:
        raise cli.UsageError("--crowds does something with --coco only")
    if args.split_list and args.val is not None:
        raise cli.UsageError("--val chooses at random, --split-list by name: give one of them")
    for text in args.split_list:
        if "=" not in text:
            raise cli.UsageError(f"--split-list needs NAME=FILE, such as val=val.txt, got {text!r}")
    named = [text.partition("=")[0] for text in args.split_list]
    if len(set(named)) < len(named):
        raise cli.UsageError("--split-list names a split twice; put its images into one list")


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
    if args.yolo:
        yield read_yolo_labels(args.yolo, finder, classes)
    if args.voc:
        yield read_voc_labels(args.voc, finder, classes)
    if args.cvat:
        yield read_cvat_labels(args.cvat, finder, classes)
    if args.label_studio:
        yield read_label_studio_labels(args.label_studio, finder, classes)


def convert(args: argparse.Namespace) -> list[object]:
    """Convert the labels; return what to print."""
    refuse_output(args.out, args.images)
    classes, finder = read_class_list(args.classes), ImageFinder(args.images)
    maps = None
    if args.labels:
        suffixes = (args.image_suffix, args.label_suffix, args.instance_suffix)
        flags = (args.components, args.zero_is_crowd)
        maps = MapOptions(args.labels, args.instances, *suffixes, *flags)
    background = background_label(classes.table, args.background) if args.background else None
    options = PaintOptions(classes, args.overlap or OVERLAPS[0], background, maps)
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
    if args.whole_things:
        summaries += write_whole_things(jobs, classes, args.out, splits, info, args.nproc)
    commands = describe_commands(way_of_calling(), args.out, args.images, list(splits))
    return [*summaries, *describe_unmatched(labels, finder), commands]


def way_of_calling() -> Path | list[str]:
    """Say how the user calls commands: the folder of the scripts, or the words in front."""
    program = Path(sys.argv[0])
    if program.stem == "mmpanoptic":
        return ["mmpanoptic"]
    if program.parts[-2:] == ("mmpanoptic", "__main__.py"):
        return ["python", "-m", "mmpanoptic"]
    return cli.tools_folder()


def run(args: argparse.Namespace) -> list[object]:
    """Convert what the arguments name."""
    check_options(args)
    with problems_reported(args.report):
        return convert(args)


main = cli.Command(build_parser, run)
