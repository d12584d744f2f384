"""Synthetic file sets for the benchmarks: the size and density of COCO and of Cityscapes."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .panoptic_maps import CATEGORIES, annotate, draw_map, perturb_map

CASES = {
    "coco": {"height": 480, "width": 640, "num_stuff": 7, "num_things": 7, "num_images": 24},
    "cityscapes": {
        "height": 1024,
        "width": 2048,
        "num_stuff": 11,
        "num_things": 37,
        "num_images": 4,
    },
}
"""Arguments of :func:`write_files`, by dataset."""


@dataclass
class PanopticFiles:
    """A ground truth and predictions, in files and in memory.

    ``temporary`` removes the folder when this object is gone.
    """

    temporary: tempfile.TemporaryDirectory
    categories: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    predictions: list[tuple[np.ndarray, list[int]]]

    @property
    def folder(self) -> Path:
        return Path(self.temporary.name)

    @property
    def paths(self) -> tuple[Path, Path, Path, Path]:
        """Both JSON files, then both folders."""
        folder = self.folder
        return folder / "gt.json", folder / "pred.json", folder / "gt", folder / "pred"


def write_files(
    size: str, height: int, width: int, num_stuff: int, num_things: int, num_images: int
) -> PanopticFiles:
    """Write random maps and plausible predictions; ``size`` "small" takes a tiny set."""
    if size == "small":
        height, width, num_images = height // 8, width // 8, 2
    rng = np.random.default_rng(0)
    files = PanopticFiles(tempfile.TemporaryDirectory(), CATEGORIES, [], [])
    listed = []
    for name in ("gt", "pred"):
        (files.folder / name).mkdir()
    for number in range(num_images):
        index, categories = draw_map(rng, height, width, num_stuff, num_things)
        ids, info = annotate(rng, index, categories)
        moved, guesses = perturb_map(rng, index, categories)
        entry = {"image_id": number, "file_name": f"{number:012d}.png"}
        files.annotations.append({**entry, "segments_info": info})
        segments = [{"id": k, "category_id": c} for k, c in enumerate(guesses, 1)]
        listed.append({**entry, "segments_info": segments})
        files.predictions.append((moved, guesses))
        write_png(files.folder / "gt" / entry["file_name"], ids)
        write_png(files.folder / "pred" / entry["file_name"], moved)
    gt_json, pred_json = files.paths[:2]
    gt_json.write_text(json.dumps({"annotations": files.annotations, "categories": CATEGORIES}))
    pred_json.write_text(json.dumps({"annotations": listed}))
    return files


def write_png(path: Path, ids: np.ndarray) -> None:
    """Write ids as colours, the lowest byte as red."""
    color = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(color).save(path)
