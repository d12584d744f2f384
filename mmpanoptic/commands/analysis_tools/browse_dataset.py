"""Draw what a model is trained on: images and ground truth after augmentation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.visualization import GalleryEntry

EXAMPLES = """
  %(prog)s CONFIG                                     # 16 training images
  %(prog)s CONFIG --num 4 --repeat 6                  # six augmentations of each of four images
  %(prog)s CONFIG --split val --cfg-options data_root=data/mine

Look at OUT_DIR/index.html or OUT_DIR/sheet.png. Hatched pixels are void.
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config")
    parser.add("--split", choices=("train", "val", "test"), default="train", help="default: train")
    parser.add(
        "--out-dir",
        old=["--output-dir"],
        type=Path,
        default=Path("browse"),
        help="folder of the gallery (default: browse)",
    )
    at_least = cli.at_least
    parser.add("--num", type=at_least(0), default=16, help="images, 0 for all (default 16)")
    parser.add("--repeat", type=at_least(1), default=1, help="augmentations of each (default 1)")
    parser.add("--shuffle", action="store_true", help="take images from all over the dataset")
    parser.add("--no-image", action="store_true", help="draw the ground truth alone")
    parser.take("palette", "cfg_options")
    return parser


def build_dataset(args: argparse.Namespace) -> Any:
    """Build the split's dataset as the config says.

    Raises:
        ValueError: If the config has no such split.
    """
    from mmengine.registry import init_default_scope

    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.registry import DATASETS

    cfg = resolve_config(cli.read_config(args))
    init_default_scope("mmpanoptic")
    dataloader = cfg.get(f"{args.split}_dataloader")
    if not dataloader or not dataloader.get("dataset"):
        raise ValueError(f"{args.config} has no {args.split}_dataloader.dataset")
    return DATASETS.build(dataloader.dataset)


def draw_items(dataset: Any, args: argparse.Namespace) -> Iterator[GalleryEntry]:
    """Load and draw the chosen items."""
    from mmpanoptic.datasets import SampleIndex
    from mmpanoptic.visualization import GalleryEntry, PanopticVisualizer

    visualizer = PanopticVisualizer("browse_dataset", palette=args.palette)
    visualizer.dataset_meta = dataset.metainfo
    count = min(args.num or len(dataset), len(dataset))
    order = np.arange(len(dataset))
    if args.shuffle:
        order = np.random.default_rng(0).permutation(len(dataset))
    for position in cli.track(order[:count].tolist(), "images"):
        for epoch in range(args.repeat):
            item = dataset[SampleIndex(position, epoch)]
            sample = item["data_samples"]
            image = np.ascontiguousarray(item["inputs"].numpy()[::-1].transpose(1, 2, 0))
            if "gt_panoptic_seg" not in sample:  # the annotation, as tests read it, is not resized
                height, width = sample.ori_shape
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            picture = visualizer.draw_sample(
                image, sample, draw_pred=False, draw_image=not args.no_image
            )
            name = f"{Path(sample.img_path).name} (item {position}, pass {epoch})"
            yield GalleryEntry(name, picture)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Write the gallery and say where."""
    from mmpanoptic.structures import LabelTable
    from mmpanoptic.visualization import write_gallery

    dataset = build_dataset(args)
    table = LabelTable.from_metainfo(dataset.metainfo)
    title = f"{args.config} - {args.split} - {len(dataset)} images"
    yield f"{title}\n{table}: {', '.join(label.name for label in table)}"
    index = write_gallery(args.out_dir, draw_items(dataset, args), title, table, columns=2)
    yield f"look at {index}"


main = cli.Command(build_parser, run)
