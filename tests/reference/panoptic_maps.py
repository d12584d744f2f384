"""Synthetic panoptic maps whose size, segment count and PNG size are like real ones."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

CATEGORIES = [
    {"id": 3 * i + 1 + i % 2, "name": f"class {i}", "isthing": int(i % 3 != 0)} for i in range(24)
]
THINGS = [c["id"] for c in CATEGORIES if c["isthing"]]
STUFF = [c["id"] for c in CATEGORIES if not c["isthing"]]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Draw a smooth random field with values around 0 and features of about ``cell`` pixels."""
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def draw_map(
    rng: np.random.Generator, height: int, width: int, num_stuff: int, num_things: int
) -> tuple[np.ndarray, list[int]]:
    """Draw warped Voronoi regions, noisy blobs on them and some void.

    Returns:
        tuple: int32 index map ``(H, W)``, 0 = void, and the category id of index 1, 2, ...
    """
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    warp = max(height // 16, 4)
    rows = rows + warp / 3 * smooth_noise(rng, height, width, warp)
    columns = columns + warp / 3 * smooth_noise(rng, height, width, warp)
    best = np.full((height, width), np.inf, np.float32)
    index = np.zeros((height, width), np.int32)
    for k in range(num_stuff):
        distance = (rows - rng.uniform(0, height)) ** 2 + (columns - rng.uniform(0, width)) ** 2
        closer = distance < best
        best[closer], index[closer] = distance[closer], k + 1
    for k in range(num_things + 1):  # the last blob is a void region
        radius = rng.uniform(0.04, 0.16) * height
        distance = np.hypot(rows - rng.uniform(0, height), columns - rng.uniform(0, width))
        index[distance < radius] = 0 if k == num_things else num_stuff + k + 1
    stuff = rng.choice(STUFF, num_stuff, replace=num_stuff > len(STUFF)).tolist()
    return index, stuff + rng.choice(THINGS, num_things).tolist()


def perturb_map(
    rng: np.random.Generator, index: np.ndarray, categories: list[int]
) -> tuple[np.ndarray, list[int]]:
    """Make a plausible prediction: moved borders, some classes wrong, some segments lost."""
    height, width = index.shape
    move = 2 + 2 * smooth_noise(rng, height, width, max(height // 24, 4))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        index.astype(np.float32), columns + move, rows - move, cv2.INTER_NEAREST
    ).astype(np.int32)
    moved[np.isin(moved, rng.permutation(len(categories))[: len(categories) // 10] + 1)] = 0
    wrong = rng.random(len(categories)) < 0.1
    guesses = np.where(wrong, rng.choice(THINGS + STUFF, len(categories)), categories).tolist()
    return compact(moved, guesses)


def compact(index: np.ndarray, categories: list[int]) -> tuple[np.ndarray, list[int]]:
    """Number the segments that have pixels 1, 2, ... without gaps."""
    present = np.unique(index)
    present = present[present > 0]
    table = np.zeros(len(categories) + 1, np.int32)
    table[present] = np.arange(1, len(present) + 1)
    return table[index], [categories[i - 1] for i in present]


def annotate(
    rng: np.random.Generator, index: np.ndarray, categories: list[int]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Give the segments random 24-bit ids and ground-truth ``segments_info``.

    Returns:
        tuple: int32 id map ``(H, W)`` and the list, a few thing segments being crowds.
    """
    index, categories = compact(index, categories)
    drawn = set()
    while len(drawn) < len(categories):
        drawn.add(int(rng.integers(1, 1 << 24)))
    ids = rng.permutation(sorted(drawn)).tolist()
    area = np.bincount(index.ravel(), minlength=len(ids) + 1)
    info = [
        {
            "id": ids[k],
            "category_id": category,
            "area": int(area[k + 1]),
            "bbox": [0, 0, 1, 1],
            "iscrowd": int(category in THINGS and rng.random() < 0.05),
        }
        for k, category in enumerate(categories)
    ]
    return np.array([0, *ids], np.int32)[index], info
