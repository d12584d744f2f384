"""A small dataset in COCO-panoptic format, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.structures import find_runs, lookup_sorted, segment_statistics
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

# Things do not come first, ids start at 0 and are not sorted.
CATEGORIES = [
    {"id": 7, "name": "meadow", "isthing": 0},
    {"id": 0, "name": "cow", "isthing": 1},
    {"id": 30, "name": "sky", "isthing": 0},
    {"id": 4, "name": "goose", "isthing": 1},
]
IDS = np.array([70_000, 255, 256, 9, 3])
SEGMENT_CATEGORIES = (7, 30, 0, 4, 0)  # the last segment is a crowd
HEIGHT, WIDTH = 40, 52


def index_map(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Draw blobs of five segments and void, uint8 ``(H, W)``, 0 = void."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (6, 7), dtype=np.uint8)
    coarse[0, :6] = np.arange(6)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def segments_info(indices: np.ndarray) -> list[dict[str, Any]]:
    """Describe the segments as the JSON does."""
    runs = find_runs(np.append(0, IDS)[indices])
    order = np.argsort(IDS)
    position = np.append(order, -1)[lookup_sorted(IDS[order], runs.value)]
    areas, boxes = segment_statistics(position, runs, len(IDS))
    return [
        {
            "id": int(IDS[k]),
            "category_id": SEGMENT_CATEGORIES[k],
            "iscrowd": int(k == 4),
            "area": int(areas[k]),
            "bbox": boxes[k].tolist(),
        }
        for k in range(len(IDS))
    ]


def write_dataset(root: Path, count: int = 4) -> dict[str, Any]:
    """Write images, PNGs and the JSON; return the JSON's content."""
    (root / "images").mkdir(parents=True)
    (root / "maps").mkdir()
    images, annotations = [], []
    for number in range(count):
        indices = index_map(number)
        noise = np.random.default_rng(100 + number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"photo_{number}.png"), noise)
        png = encode_panoptic_png(np.append(0, IDS)[indices])
        (root / "maps" / f"map_{number}.png").write_bytes(png)
        images.append(
            {
                "id": f"img{number}",
                "file_name": f"photo_{number}.png",
                "height": HEIGHT,
                "width": WIDTH,
            }
        )
        # Annotations are listed in the opposite order of images.
        annotation = {
            "image_id": f"img{number}",
            "file_name": f"map_{number}.png",
            "segments_info": segments_info(indices),
        }
        annotations.insert(0, annotation)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    write_json(root, content)
    return content


def write_json(root: Path, content: dict[str, Any]) -> None:
    """Write the annotation file again."""
    (root / "panoptic.json").write_text(json.dumps(content))


def dataset_args(root: Path) -> dict[str, Any]:
    """Arguments of PanopticDataset for the folder."""
    return {
        "ann_file": "panoptic.json",
        "data_root": str(root),
        "data_prefix": {"img": "images", "seg": "maps"},
    }
