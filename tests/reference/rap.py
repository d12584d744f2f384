"""The published procedures of RAP, restated plainly: whole images, loops over instances."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor


def paste_full(probability: Tensor, boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Paste masks one by one into images of full size: bool ``(K, H, W)``; Detectron's rule."""
    height, width = size
    result = np.zeros((len(boxes), height, width), bool)
    cells = probability.shape[1]
    scale = (cells + 2) / cells
    for mask, box, out in zip(probability, boxes, result, strict=True):
        half = (box[2:] - box[:2]) * 0.5 * scale
        middle = (box[2:] + box[:2]) * 0.5
        x0, y0, x1, y1 = torch.cat([middle - half, middle + half]).to(torch.int32).tolist()
        w, h = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
        padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))[None, None]
        large = torch.nn.functional.interpolate(
            padded, size=(h, w), mode="bilinear", align_corners=False
        )[0, 0]
        inside = (large > 0.5).numpy()
        left, top = max(x0, 0), max(y0, 0)
        right, bottom = min(x1 + 1, width), min(y1 + 1, height)
        out[top:bottom, left:right] = inside[top - y0 : bottom - y0, left - x0 : right - x0]
    return result


def add_stuff(segments: np.ndarray, channels: np.ndarray, num_stuff: int, limit: int) -> None:
    """Fill what is free with stuff, in place."""
    number = segments.max()
    for channel in range(1, num_stuff + 1):
        mask = (channels == channel) & (segments == 0)
        if mask.sum() < max(limit, 1):
            continue
        number += 1
        segments[mask] = number


def compare_partitions(expected: np.ndarray, got: np.ndarray, tolerated: float = 1e-5) -> None:
    """Compare two maps whose segments may have other numbers.

    Args:
        expected: int ``(H, W)``.
        got: int ``(H, W)``.
        tolerated: Fraction of pixels that may differ: those whose mask value is the threshold.

    Raises:
        AssertionError: If more differ.
    """
    pairs, counts = np.unique(np.stack([expected.ravel(), got.ravel()]), axis=1, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for (first, second), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        best[first] = max(best.get(first, (0, -1)), (count, second))
    if len({second for _, second in best.values()}) < len(best):
        raise AssertionError("segments of the expected map were joined")
    wrong = expected.size - sum(count for count, _ in best.values())
    if wrong > tolerated * expected.size:
        raise AssertionError(f"{wrong} pixels differ")


def fuse_heuristic(masks: np.ndarray, order: Sequence[int], overlap_thr: float) -> np.ndarray:
    """Accept what is mostly free; a map of segment numbers."""
    segments = np.zeros(masks.shape[1:], np.int32)
    used = np.zeros(masks.shape[1:], bool)
    number = 0
    for k in order:
        mask = masks[k]
        area = mask.sum()
        if area == 0 or (mask & used).sum() / area > overlap_thr:
            continue
        number += 1
        segments[mask & ~used] = number
        used |= mask
    return segments


def fuse_relation(
    masks: np.ndarray,
    order: Sequence[int],
    labels: np.ndarray,
    values: np.ndarray,
    thresholds: tuple[float, float],
) -> np.ndarray:
    """Nearer instances take pixels; a map of segment numbers, some of which may be gone."""
    overlap_thr, large_thr = thresholds
    segments = np.zeros(masks.shape[1:], np.int32)
    classes = np.full(masks.shape[1:], -1)
    depth = np.full(masks.shape[1:], np.inf, np.float32)
    number = 0
    for k in order:
        mask = masks[k]
        area = mask.sum()
        if area == 0:
            continue
        if (mask & (segments > 0) & (classes == labels[k])).sum() / area > overlap_thr:
            continue
        large = False
        for other in np.unique(segments[mask]):
            if other == 0:
                continue
            common = (mask & (segments == other)).sum()
            visible = (segments == other).sum()
            large |= common / area >= large_thr and common / visible >= large_thr
        visible = mask & (depth > values[k])
        if large or visible.sum() / area <= overlap_thr:
            continue
        number += 1
        segments[visible] = number
        classes[visible] = labels[k]
        depth[visible] = values[k]
    return segments


def fuse_occlusion(
    masks: np.ndarray,
    order: Sequence[int],
    occludes: Callable[[int, int], bool],
    thresholds: tuple[float, float],
) -> np.ndarray:
    """Instances take pixels from those they lie on; a map of segment numbers."""
    overlap_thr, pair_thr = thresholds
    segments = np.zeros(masks.shape[1:], np.int32)
    accepted: list[int] = []
    for k in order:
        mask = masks[k]
        area = mask.sum()
        if area == 0:
            continue
        taken = mask & (segments == 0)
        for other in np.unique(segments[mask]):
            if other == 0:
                continue
            common = mask & (segments == other)
            large = common.sum() / area >= pair_thr
            large |= common.sum() / (segments == other).sum() >= pair_thr
            if large and occludes(k, accepted[other - 1]):
                taken |= common
        if (mask & (segments > 0)).any() and taken.sum() / area <= overlap_thr:
            continue
        accepted.append(k)
        segments[taken] = len(accepted)
    return segments


def ranking_loss(values: Tensor, owners: Sequence[Sequence[int]], fronts: Sequence[set]) -> Tensor:
    """Sum ``log(1 + exp(z_front - z_behind))`` over pairs of proposals in two loops."""
    total, count, start = torch.zeros(()), 0, 0
    for own, front in zip(owners, fronts, strict=True):
        z = values[start : start + len(own)]
        for i in range(len(own)):
            for j in range(i + 1, len(own)):
                if (own[i], own[j]) in front:
                    total = total + torch.log(1 + torch.exp(z[i] - z[j]))
                elif (own[j], own[i]) in front:
                    total = total + torch.log(1 + torch.exp(z[j] - z[i]))
                else:
                    continue
                count += 1
        start += len(own)
    return total / count


def extract_relations(root: Path) -> dict[int, dict[int, list[int]]]:
    """Extract relations as published: decode image and PNG, draw every mask at full size."""
    truth = json.loads((root / "instances.json").read_text())
    panoptic = json.loads((root / "panoptic.json").read_text())
    things = {c["id"] for c in panoptic["categories"] if c["isthing"]}
    images = {image["id"]: image for image in truth["images"]}
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in truth["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    result = {}
    for record in panoptic["annotations"]:
        image = images[record["image_id"]]
        own = by_image.get(image["id"])
        if own is None:
            continue
        cv2.imread(str(root / "images" / image["file_name"]))  # as published; nothing uses it
        color = cv2.imread(str(root / "panoptic" / record["file_name"])).astype(np.int32)
        ids = color[..., 2] + 256 * color[..., 1] + 65536 * color[..., 0]
        segments = [s for s in record["segments_info"] if s["category_id"] in things]
        result[image["id"]] = _relations_of_image(own, segments, ids)
    return result


def _relations_of_image(
    own: list[dict[str, Any]], segments: list[dict[str, Any]], ids: np.ndarray
) -> dict[int, list[int]]:
    matched: dict[int, dict[str, Any]] = {}
    for segment in segments:
        best, nearest = 9999.0, None
        for annotation in own:
            distance = np.sqrt(
                sum((a - b) ** 2 for a, b in zip(annotation["bbox"], segment["bbox"], strict=True))
            )
            if distance < best:
                best, nearest = distance, annotation["id"]
        if nearest is None:
            continue
        if nearest in matched:
            del matched[nearest]
        else:
            matched[nearest] = segment
    used = [a for a in own if a["id"] in matched]
    masks, losses = [], []
    for annotation in used:
        mask = np.zeros(ids.shape, np.uint8)
        for polygon in annotation["segmentation"]:
            cv2.fillPoly(mask, [np.array(polygon).reshape(-1, 1, 2).astype(np.int32)], 1)
        masks.append(mask > 0)
        losses.append(mask.sum() - (ids == matched[annotation["id"]]["id"]).sum())
    found: dict[int, list[int]] = {}
    for i in range(len(used)):
        for j in range(i + 1, len(used)):
            common = np.logical_and(masks[i], masks[j]).sum()
            if common / masks[i].sum() <= 0.2 and common / masks[j].sum() <= 0.2:
                continue
            if losses[i] == losses[j]:
                continue
            front, behind = (i, j) if losses[i] < losses[j] else (j, i)
            found.setdefault(used[behind]["id"], []).append(used[front]["id"])
    return found
