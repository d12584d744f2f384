"""Configs of real data: what a GPU is measured with."""

from __future__ import annotations

import re
from typing import Any

SIZES = {
    "coco": (800, 1344),
    "coco-nas": (800, 1344),
    "ade20k": (800, 1344),
    "cityscapes": (1024, 2048),
    "mapillary": (1024, 2048),
    "coco-448": (448, 768),
}
"""Height and width of an image where a config's name does not end in them."""
OTHERS = ("shapes", "_own", "imagenet", "tiny", "search")


def real_configs() -> list[str]:
    """Names of the trainings on panoptic maps of real data."""
    from mmpanoptic.apis import list_configs

    leaves = [n for n, path in list_configs().items() if path.read_text().startswith('"""')]
    return [name for name in leaves if not any(word in name for word in OTHERS)]


def size_of(name: str) -> tuple[int, int]:
    """Height and width of the images of a config."""
    dataset = name.rpartition("_")[2]
    found = re.search(r"-(\d+)x(\d+)$", dataset)
    square = re.search(r"-(\d+)$", dataset)
    if dataset in SIZES or not (found or square):
        return SIZES[dataset]
    return (int(found[1]), int(found[2])) if found else (int(square[1]),) * 2


def resolve(name: str) -> Any:
    """Read a config with made-up classes, so that no dataset is needed."""
    from mmengine.config import Config

    from mmpanoptic.apis import find_config
    from mmpanoptic.apis.speed import make_table
    from mmpanoptic.engine.config import resolve_config

    return resolve_config(Config.fromfile(find_config(name)), make_table().to_metainfo())
