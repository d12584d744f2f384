"""Made-up detections and a made-up COCO set of the size of the real ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as mask_utils

from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .rap import add_stuff, paste_full

NUM_THINGS, NUM_STUFF = 80, 53
CELLS = 28
SIZES = {"default": (100, 800, 1333, 4096), "small": (20, 100, 166, 64)}
"""Detections, height, width and smallest area of stuff of a benchmark."""


def fusion_inputs(head: type, size: str, pasted: bool, **options: Any) -> dict[str, Any]:
    """Draw detections and build a fusion head for them.

    Args:
        head (type): Class of the fusion head.
        size (str): Of :data:`SIZES`.
        pasted (bool): Paste the masks for the baseline beforehand, too.
        **options (Any): Arguments of the head.

    Returns:
        dict: See :func:`draw_detections`; ``head``, ``stuff_area``, ``order`` and ``masks``.
    """
    count, height, width, stuff_area = SIZES[size]
    inputs = draw_detections(0, count, height, width)
    inputs["head"] = head(
        thing_labels=range(NUM_THINGS),
        stuff_labels=range(NUM_THINGS, NUM_THINGS + NUM_STUFF),
        score_thr=0.0,
        stuff_area=stuff_area,
        mask_mode="legacy",
        **options,
    )
    inputs["stuff_area"] = stuff_area
    inputs["order"] = np.argsort(-inputs["found"].scores.numpy(), kind="stable")
    inputs["masks"] = full_masks(inputs) if pasted else None
    return inputs


def full_masks(inputs: dict[str, Any]) -> np.ndarray:
    """Return the masks at full size: bool ``(K, H, W)``.

    Pasted beforehand, or as the published code gets them: pasted now, stored as run lengths by the
    network's side and read back by the fusion.
    """
    if inputs.get("masks") is not None:
        return inputs["masks"]
    found = inputs["found"]
    pasted = paste_full(found.mask_logits.sigmoid(), found.bboxes, inputs["size"])
    stored = [mask_utils.encode(np.asfortranarray(mask, np.uint8)) for mask in pasted]
    return np.stack([mask_utils.decode(runs) for runs in stored]).astype(bool)


def finish_map(segments: np.ndarray, inputs: dict[str, Any]) -> np.ndarray:
    """Fill in stuff and, with masks that were not pasted beforehand, make the published PNG."""
    add_stuff(segments, inputs["channels"].numpy(), NUM_STUFF, inputs["stuff_area"])
    if inputs.get("masks") is None:
        colors = np.stack([segments % 256, segments // 256 % 256, segments // 65536], -1)
        Image.fromarray(colors.astype(np.uint8)).save(io.BytesIO(), "PNG")
    return segments


def draw_detections(seed: int, count: int, height: int, width: int) -> dict[str, Any]:
    """Draw instances of all sizes, their masks in boxes, and a semantic map.

    Returns:
        dict: ``found`` (``InstanceData``) with scores from 0.6 on, ``occlusion`` bool ``(K, K)``,
        ``channels`` int64 ``(H, W)``, 0 void, 1..53 stuff, 54 things, and the ``size``.
    """
    rng = np.random.default_rng(seed)
    scale = np.sqrt(height * width)
    side = np.exp(rng.uniform(np.log(0.03), np.log(0.4), count)) * scale
    aspect = np.exp(rng.uniform(-0.7, 0.7, count))
    extent = np.stack([side * np.sqrt(aspect), side / np.sqrt(aspect)], 1)
    center = rng.uniform(0, 1, (count, 2)) * (width, height)
    boxes = np.concatenate([center - extent / 2, center + extent / 2], 1)
    boxes = boxes.clip(0, [width - 1, height - 1] * 2)
    grid = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    radius = np.hypot(grid[:, None], grid[None])
    bumps = rng.normal(0, 0.5, (count, 7, 7)).astype(np.float32)
    bumps = np.stack([cv2.resize(b, (CELLS, CELLS), interpolation=cv2.INTER_CUBIC) for b in bumps])
    logits = 6 * (0.85 + 0.3 * bumps - radius)
    found = InstanceData(
        bboxes=torch.from_numpy(boxes).float(),
        scores=torch.from_numpy(rng.permutation(count) / count * 0.4 + 0.6).float(),
        labels=torch.from_numpy(rng.integers(0, NUM_THINGS, count)),
        mask_logits=torch.from_numpy(logits).float(),
        relation_values=torch.from_numpy(rng.normal(0, 3, count)).float(),
    )
    coarse = rng.integers(0, NUM_STUFF + 2, (6, 9)).astype(np.uint8)
    channels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return {
        "found": found,
        "occlusion": torch.from_numpy(rng.random((count, count)) < 0.5),
        "channels": torch.from_numpy(channels.astype(np.int64)),
        "size": (height, width),
    }


def write_coco_set(root: Path, seed: int, count: int, height: int, width: int) -> None:
    """Write images, panoptic PNGs and both JSONs; 7.5 things an image on average, polygons."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "panoptic").mkdir()
    images, annotations, maps = [], [], []
    for number in range(1, count + 1):
        ids = np.full((height, width), 999, np.int32)
        own = []
        for _ in range(int(rng.integers(2, 14))):
            points = _draw_outline(rng, height, width)
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [points.astype(np.int32)], 1)
            if not mask.any():
                continue
            identity = number * 1000 + len(own) + 1
            ids[mask > 0] = identity
            low, high = points.min(0), points.max(0)
            own.append(
                {
                    "id": identity,
                    "image_id": number,
                    "category_id": int(rng.integers(1, NUM_THINGS + 1)),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "segmentation": [points.flatten().round(2).tolist()],
                    "iscrowd": 0,
                }
            )
        annotations += own
        maps.append(_describe(number, ids, own))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"{number}.jpg"), image)
        (root / "panoptic" / f"{number}.png").write_bytes(encode_panoptic_png(ids))
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "height": height, "width": width}
        )
    categories = [{"id": k, "name": f"thing {k}", "isthing": 1} for k in range(1, NUM_THINGS + 1)]
    categories.append({"id": 200, "name": "ground", "isthing": 0})
    common = {"images": images, "categories": categories}
    (root / "instances.json").write_text(json.dumps({**common, "annotations": annotations}))
    (root / "panoptic.json").write_text(json.dumps({**common, "annotations": maps}))


def _draw_outline(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a closed outline of 30 points, float ``(30, 2)`` x y inside the image."""
    radius = float(np.exp(rng.uniform(np.log(12), np.log(150)))) * np.sqrt(height * width) / 554
    angle = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    reach = radius * (1 + 0.15 * rng.normal(size=30))
    center = rng.uniform(0, 1, 2) * (width, height)
    points = center + np.stack([reach * np.cos(angle), 0.7 * reach * np.sin(angle)], 1)
    return points.clip(0, [width - 1, height - 1])


def _describe(number: int, ids: np.ndarray, own: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe the visible segments of a map."""
    segments = []
    for identity, category in [(a["id"], a["category_id"]) for a in own] + [(999, 200)]:
        mask = ids == identity
        if not mask.any():
            continue
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        segments.append(
            {
                "id": int(identity),
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
        )
    return {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
