"""Reading of a training set from tar shards, its files not in memory."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.datasets import InfiniteSeededSampler, PanopticDataset, ShardedPanopticDataset
from mmpanoptic.datasets.converters.shards import write_shards
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

DESCRIPTION = (
    "One shuffled pass of ShardedPanopticDataset over 20,000 images of 96x128 in shards of 1000, "
    "loaded and decoded; before each run the system is told to forget the files."
)
BASELINE = "The same pass over the same files in two folders, in any order."
COUNTS = {"default": 20_000, "small": 60}
PICTURES = 50  # different ones; the rest are copies
SHAPE = (96, 128)
PIPELINE = [{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}]


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Write folders and shards."""
    temporary = tempfile.TemporaryDirectory()
    root, count = Path(temporary.name), COUNTS[size]
    write_folders(root, count)
    source = (root / "panoptic.json", root / "images", root / "shards")
    for _ in write_shards(*source, png_dir=root / "maps", shuffle=0):
        pass
    prefix = {"img": "images", "seg": "maps"}
    folders = PanopticDataset(
        "panoptic.json", data_root=str(root), data_prefix=prefix, pipeline=PIPELINE
    )
    shards = ShardedPanopticDataset(data_root=str(root / "shards"), pipeline=PIPELINE)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {"temporary": temporary, "folders": folders, "shards": shards, "files": files}


def write_folders(root: Path, count: int) -> None:
    """Write the set."""
    (root / "images").mkdir()
    (root / "maps").mkdir()
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(PICTURES):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        picture = cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
        ids = cv2.resize(rng.integers(1, 9, (6, 8), np.uint8), SHAPE[::-1], interpolation=0)
        segments = [
            {"id": int(id_), "category_id": int(id_) % 3, "iscrowd": 0, "area": int(area)}
            for id_, area in zip(*np.unique(ids, return_counts=True), strict=True)
        ]
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        pairs.append((jpeg, encode_panoptic_png(ids.astype(np.int32)), segments))
    images, annotations = [], []
    for number in range(count):
        jpeg, png, segments = pairs[number % PICTURES]
        names = f"{number:06d}.jpg", f"{number:06d}.png"
        (root / "images" / names[0]).write_bytes(jpeg)
        (root / "maps" / names[1]).write_bytes(png)
        size = {"height": SHAPE[0], "width": SHAPE[1]}
        images.append({"id": number, "file_name": names[0], **size})
        annotations.append({"image_id": number, "file_name": names[1], "segments_info": segments})
    categories = [{"id": k, "name": f"class {k}", "isthing": k % 2} for k in range(3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "panoptic.json").write_text(json.dumps(content))


def before(inputs: dict[str, Any]) -> None:
    """Drop the files from memory: everything where root may, else their content."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        for path in inputs["files"]:
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _pass(dataset: Any) -> Iterator[dict[str, Any]]:
    for index in islice(InfiniteSeededSampler(dataset, seed=0), len(dataset)):
        yield dataset[index]


def _read(dataset: Any) -> dict[int, bytes]:
    return {
        sample["img_id"]: hashlib.md5(  # noqa: S324 - tells equal arrays
            sample["img"].tobytes() + sample["gt_seg_map"].tobytes()
        ).digest()
        for sample in _pass(dataset)
    }


def baseline(inputs: dict[str, Any]) -> dict[int, bytes]:
    """Read the folders."""
    return _read(inputs["folders"])


def ours(inputs: dict[str, Any]) -> dict[int, bytes]:
    """Read the shards."""
    return _read(inputs["shards"])


def check(expected: dict[int, bytes], got: dict[int, bytes]) -> None:
    """Compare images and maps."""
    if expected != got:
        raise AssertionError("the samples differ")
