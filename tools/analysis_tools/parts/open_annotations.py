"""Opening of a large annotation file."""

from __future__ import annotations

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

from mmpanoptic.datasets import PanopticDataset

DESCRIPTION = (
    "PanopticDataset of 20,000 images and 220,000 segments: read, checked and packed; case cached: "
    "from the cache, which is found by the hash of the content."
)
BASELINE = "json.load and nothing else; it keeps the objects."
CASES: dict[str, dict[str, Any]] = {"": {}, "cached": {"cached": True}}
SIZES = {"default": 20_000, "small": 40}


def make_inputs(size: str = "default", cached: bool = False) -> dict[str, Any]:
    """Write a file of COCO's density."""
    temporary = tempfile.TemporaryDirectory()
    file = Path(temporary.name, "panoptic.json")
    file.write_text(json.dumps(draw(SIZES[size])))
    inputs = {"temporary": temporary, "file": file, "cached": cached}
    if cached:
        ours(inputs)
    return inputs


def draw(count: int) -> dict[str, Any]:
    """Make up images of 6 to 16 segments."""
    rng = random.Random(0)  # noqa: S311
    categories = [{"id": 2 * k, "name": f"class {k}", "isthing": k % 2} for k in range(133)]
    images = [
        {"id": k, "file_name": f"{k:012d}.jpg", "height": 480, "width": 640, "license": 3}
        for k in range(count)
    ]
    annotations = [
        {
            "segments_info": [draw_segment(rng, id_) for id_ in rng.sample(range(1, 1 << 24), n)],
            "file_name": f"{k:012d}.png",
            "image_id": k,
        }
        for k in range(count)
        for n in [rng.randint(6, 16)]
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def draw_segment(rng: random.Random, segment_id: int) -> dict[str, Any]:
    """Make up a segment."""
    x, y, width, height = (rng.randint(1, 240) for _ in range(4))
    return {
        "id": segment_id,
        "category_id": 2 * rng.randrange(133),
        "iscrowd": 0,
        "bbox": [x, y, width, height],
        "area": width * height,
    }


def baseline(inputs: dict[str, Any]) -> dict[str, Any]:
    """Parse the file."""
    return json.loads(inputs["file"].read_bytes())


def ours(inputs: dict[str, Any]) -> PanopticDataset:
    """Open it, with a cache folder of its own."""
    before = os.environ.get("MMPANOPTIC_HOME")
    os.environ["MMPANOPTIC_HOME"] = inputs["temporary"].name
    try:
        return PanopticDataset(str(inputs["file"]), use_cache=inputs["cached"])
    finally:
        if before is None:
            del os.environ["MMPANOPTIC_HOME"]
        else:
            os.environ["MMPANOPTIC_HOME"] = before


def check(expected: dict[str, Any], got: PanopticDataset) -> None:
    """Compare records."""
    annotations = expected["annotations"]
    for k in range(0, len(annotations), max(1, len(annotations) // 50)):
        info, annotation = got.get_data_info(k), annotations[k]
        found = [
            {key: one[key] for key in other}
            for one, other in zip(info["segments_info"], annotation["segments_info"], strict=True)
        ]
        if (info["img_id"], found) != (annotation["image_id"], annotation["segments_info"]):
            raise AssertionError(f"record {k}: {info} != {annotation}")
    if len(got) != len(annotations):
        raise AssertionError(f"{len(got)} records, not {len(annotations)}")
