"""Plain re-statements of Panoptic-DeepLab's target generator and post-processing.

Written for clarity, the way the publication describes them: one pass over the map per segment, the
distance of every pixel to every centre. Used as oracles and as baselines of benchmarks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn import functional


def make_targets(
    ids: np.ndarray,
    segments: Sequence[dict],
    thing_ids: Collection[int],
    sigma: float = 10,
    ignore_stuff_in_offset: bool = True,
    small_instance_area: int = 4096,
    small_instance_weight: float = 3,
    ignore_crowd_in_semantic: bool = False,
) -> dict[str, np.ndarray]:
    """Make the training targets of one image, segment by segment."""
    height, width = ids.shape
    semantic = np.full(ids.shape, 255, np.int64)
    semantic_weight = np.ones(ids.shape, np.float32)
    center = np.zeros(ids.shape, np.float32)
    center_weight = np.zeros(ids.shape, np.float32)
    offset = np.zeros((2, *ids.shape), np.float32)
    offset_weight = np.zeros(ids.shape, np.float32)
    points = []
    radius = int(3 * sigma) + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    gaussian = np.exp(-(y**2 + x**2) / (2 * sigma**2)).astype(np.float32)
    for segment in segments:
        mask = ids == segment["id"]
        isthing = segment["category_id"] in thing_ids
        if not (ignore_crowd_in_semantic and segment["iscrowd"]):
            semantic[mask] = segment["category_id"]
        if not segment["iscrowd"]:
            center_weight[mask] = 1
            if isthing or not ignore_stuff_in_offset:
                offset_weight[mask] = 1
        rows, columns = np.nonzero(mask)
        if not isthing or not len(rows):
            continue
        if len(rows) < small_instance_area:
            semantic_weight[mask] = small_instance_weight
        cy, cx = rows.mean(), columns.mean()
        points.append((cy, cx))
        peak_y, peak_x = round(float(cy)), round(float(cx))
        top, left = max(peak_y - radius, 0), max(peak_x - radius, 0)
        bottom, right = min(peak_y + radius + 1, height), min(peak_x + radius + 1, width)
        window = center[top:bottom, left:right]
        patch = gaussian[
            top - peak_y + radius : bottom - peak_y + radius,
            left - peak_x + radius : right - peak_x + radius,
        ]
        np.maximum(window, patch, out=window)
        offset[0][mask] = cy - rows
        offset[1][mask] = cx - columns
    return {
        "semantic": semantic,
        "semantic_weight": semantic_weight,
        "center": center,
        "center_weight": center_weight,
        "offset": offset,
        "offset_weight": offset_weight,
        "center_points": np.array(points).reshape(-1, 2),
    }


def map_sample(
    image_path: str,
    map_path: str,
    segments: Sequence[dict],
    thing_ids: Collection[int],
    sigma: float,
    short_edges: Sequence[int],
    max_size: int,
    crop: tuple[int, int],
) -> dict[str, np.ndarray]:
    """Read, resize, crop and flip one sample and make its targets; colours move with the map.

    The random choices are drawn in the order of our pipeline, so that one seed gives one sample.
    """
    with Image.open(image_path) as file:
        image = file.convert("RGB")
    with Image.open(map_path) as file:
        colors = file.convert("RGB")
    short_edge = short_edges[np.random.randint(len(short_edges))]
    scale = min(short_edge / min(image.size), max_size / max(image.size))
    size = tuple(int(length * scale + 0.5) for length in image.size)
    resized = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    color_map = np.asarray(colors.resize(size, Image.Resampling.NEAREST))
    top = np.random.randint(size[1] - crop[0] + 1)
    left = np.random.randint(size[0] - crop[1] + 1)
    window = np.s_[top : top + crop[0], left : left + crop[1]]
    resized, color_map = resized[window], color_map[window]
    if np.random.choice(["horizontal", "none"], p=[0.5, 0.5]) == "horizontal":
        resized, color_map = resized[:, ::-1], color_map[:, ::-1]
    red, green, blue = np.moveaxis(color_map.astype(np.int64), -1, 0)
    targets = make_targets(red + 256 * green + 65536 * blue, segments, thing_ids, sigma)
    targets["image"] = np.ascontiguousarray(resized.transpose(2, 0, 1)[::-1])  # BGR like ours
    return targets


def find_centers(
    heatmap: torch.Tensor, threshold: float, nms_kernel: int, top_k: int | None
) -> torch.Tensor:
    """Find the centres ``(K, 2)`` as (y, x) in a heatmap ``(H, W)``."""
    kept = torch.where(heatmap > threshold, heatmap, torch.tensor(-1.0))[None]
    pooled = functional.max_pool2d(kept, nms_kernel, stride=1, padding=(nms_kernel - 1) // 2)
    kept = torch.where(kept == pooled, kept, torch.tensor(-1.0))[0]
    limit = 0.0
    if top_k is not None and top_k <= kept.numel():
        limit = max(kept.flatten().topk(top_k).values[-1].item(), 0.0)
    return (kept > limit).nonzero()


def group_pixels(centers: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Number (from 1) of the nearest centre of every pixel, ``(H, W)``."""
    height, width = offset.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    location = torch.stack([y, x]).float() + offset
    location = location.flatten(1).T[None]
    distance = torch.norm(centers[:, None].float() - location, dim=-1)
    return distance.argmin(0).view(height, width) + 1


def get_panoptic_segmentation(
    semantic: torch.Tensor,
    heatmap: torch.Tensor,
    offset: torch.Tensor,
    thing_ids: Collection[int],
    stuff_area: int,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int | None = 200,
    label_divisor: int = 1000,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Group, vote and merge.

    Returns:
        tuple: Map ``(H, W)`` of ``class * label_divisor + n`` (void -1) and centres ``(K, 2)``.
    """
    isthing = torch.zeros_like(semantic, dtype=torch.bool)
    for label in thing_ids:
        isthing |= semantic == label
    centers = find_centers(heatmap, threshold, nms_kernel, top_k)
    instance = torch.zeros_like(semantic)
    if len(centers):
        instance = group_pixels(centers, offset) * isthing
    panoptic = torch.full_like(semantic, -1)
    count: dict[int, int] = {}
    for number in instance.unique().tolist():
        if number == 0:
            continue
        mask = instance == number
        label = int(semantic[mask].mode().values)
        count[label] = count.get(label, 0) + 1
        panoptic[mask] = label * label_divisor + count[label]
    for label in semantic.unique().tolist():
        mask = semantic == label
        if label not in thing_ids and mask.sum() >= stuff_area:
            panoptic[mask] = label * label_divisor
    return panoptic, centers
