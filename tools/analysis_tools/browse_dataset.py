#!/usr/bin/env python
"""Draw what a model is trained on: images and ground truth after augmentation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.apis import get_config
from mmpanoptic.datasets import SampleIndex
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.cfg_options import ConfigOptions
from mmpanoptic.visualization import GalleryEntry, PanopticVisualizer, write_gallery

EXAMPLES = """examples:
  %(prog)s CONFIG                                     # 16 training images
  %(prog)s CONFIG --num 4 --repeat 6                  # six augmentations of each of four images
  %(prog)s CONFIG --split val --cfg-options data_root=data/mine

Look at OUTPUT_DIR/index.html or OUTPUT_DIR/sheet.png. Hatched pixels are void.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("--split", choices=("train", "val", "test"), default="train", help="default: train")
    add("--output-dir", type=Path, default=Path("browse"), help="default: browse")
    add("--num", type=int, default=16, help="number of images, 0 for all (default 16)")
    add("--repeat", type=int, default=1, help="augmentations of each image (default 1)")
    add("--shuffle", action="store_true", help="take images from all over the dataset")
    add("--no-image", action="store_true", help="draw the ground truth alone")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    args = parser.parse_args(argv)
    if args.num < 0 or args.repeat < 1:
        parser.error("--num must be at least 0 and --repeat at least 1")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Write the gallery and say where."""
    args = parse_args(argv)
    try:
        dataset = build_dataset(args)
        table = LabelTable.from_metainfo(dataset.metainfo)
        title = f"{args.config} - {args.split} - {len(dataset)} images"
        entries = draw_items(dataset, args)
        index = write_gallery(args.output_dir, entries, title, table, columns=2)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{title}\n{table}: {', '.join(label.name for label in table)}\nlook at {index}")
    return 0


def build_dataset(args: argparse.Namespace) -> Any:
    """Build the split's dataset as the config says.

    Raises:
        ValueError: If the config has no such split.
    """
    cfg: Config = get_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg = resolve_config(cfg)
    init_default_scope("mmpanoptic")
    dataloader = cfg.get(f"{args.split}_dataloader")
    if not dataloader or not dataloader.get("dataset"):
        raise ValueError(f"{args.config} has no {args.split}_dataloader.dataset")
    return DATASETS.build(dataloader.dataset)


def draw_items(dataset: Any, args: argparse.Namespace) -> Iterator[GalleryEntry]:
    """Load and draw the chosen items."""
    visualizer = PanopticVisualizer("browse_dataset")
    visualizer.dataset_meta = dataset.metainfo
    count = min(args.num or len(dataset), len(dataset))
    order = np.arange(len(dataset))
    if args.shuffle:
        order = np.random.default_rng(0).permutation(len(dataset))
    for position in order[:count].tolist():
        for epoch in range(args.repeat):
            item = dataset[SampleIndex(position, epoch)]
            sample = item["data_samples"]
            image = np.ascontiguousarray(item["inputs"].numpy()[::-1].transpose(1, 2, 0))
            picture = visualizer.draw_sample(
                image, sample, draw_pred=False, draw_image=not args.no_image
            )
            name = f"{Path(sample.img_path).name} (item {position}, pass {epoch})"
            yield GalleryEntry(name, picture)


if __name__ == "__main__":
    sys.exit(main())
