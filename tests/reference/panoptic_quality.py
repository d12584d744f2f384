"""Plain re-statement of panoptic quality (Kirillov et al. 2019, section 4) from PNG files.

It follows the published evaluation procedure step by step: decode both colour PNGs, turn colours
into ids by arithmetic, count pairs of ids with a sort over all pixels, match pair by pair. It is
the oracle for random tests and the baseline of the benchmarks, and makes no attempt at speed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OFFSET = 1 << 32


def read_ids(path: Path) -> np.ndarray:
    """Decode a colour PNG into uint32 ids ``(H, W)``."""
    color = np.array(Image.open(path), dtype=np.uint32)
    return color[:, :, 0] + 256 * color[:, :, 1] + 256 * 256 * color[:, :, 2]


def count_ids(pred_ids: np.ndarray, pred_info: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Index the predicted segments by id and count their pixels."""
    predicted = {segment["id"]: dict(segment) for segment in pred_info}
    for label, count in zip(*np.unique(pred_ids, return_counts=True), strict=True):
        if int(label) in predicted:
            predicted[int(label)]["area"] = int(count)
        elif label:
            raise KeyError(f"id {label} is in the PNG, but not in the JSON")
    return predicted


def count_pairs(gt_ids: np.ndarray, pred_ids: np.ndarray) -> dict[tuple[int, int], int]:
    """Count the pixels of each pair of ids, ascending."""
    codes = gt_ids.astype(np.uint64) * OFFSET + pred_ids.astype(np.uint64)
    pairs = {}
    for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
        pairs[int(code) // OFFSET, int(code) % OFFSET] = int(count)
    return pairs


def match_pairs(
    truth: dict[int, dict[str, Any]],
    predicted: dict[int, dict[str, Any]],
    pairs: dict[tuple[int, int], int],
) -> list[tuple[int, int, float]]:
    """List the pairs of segments whose IoU is above one half."""
    matches = []
    for (g, p), common in pairs.items():
        if g not in truth or p not in predicted or truth[g]["iscrowd"]:
            continue
        if truth[g]["category_id"] != predicted[p]["category_id"]:
            continue
        union = truth[g]["area"] + predicted[p]["area"] - common - pairs.get((0, p), 0)
        iou = common / union
        if iou > 0.5:
            matches.append((g, p, iou))
    return matches


def image_statistics(
    gt_ids: np.ndarray,
    gt_info: list[dict[str, Any]],
    pred_ids: np.ndarray,
    pred_info: list[dict[str, Any]],
    stats: dict[Any, dict[str, Any]],
) -> None:
    """Add one image's matches to ``stats[category] = dict(iou, tp, fp, fn)``."""
    truth = {segment["id"]: segment for segment in gt_info}
    predicted = count_ids(pred_ids, pred_info)
    pairs = count_pairs(gt_ids, pred_ids)
    matches = match_pairs(truth, predicted, pairs)
    for g, _, iou in matches:
        stats[truth[g]["category_id"]]["tp"] += 1
        stats[truth[g]["category_id"]]["iou"] += iou
    crowds = {}
    for g in truth.keys() - {g for g, _, _ in matches}:
        if not truth[g]["iscrowd"]:
            stats[truth[g]["category_id"]]["fn"] += 1
    for g, segment in truth.items():
        if segment["iscrowd"]:
            crowds[segment["category_id"]] = g  # the last one listed
    for p in predicted.keys() - {p for _, p, _ in matches}:
        category = predicted[p]["category_id"]
        ignored = pairs.get((0, p), 0) + pairs.get((crowds.get(category, -1), p), 0)
        if ignored / predicted[p]["area"] <= 0.5:
            stats[category]["fp"] += 1


def new_statistics() -> dict[Any, dict[str, Any]]:
    """Make an empty table of statistics by category."""
    return defaultdict(lambda: {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0})


def average(
    stats: dict[Any, dict[str, Any]], categories: list[dict[str, Any]], isthing: bool | None
) -> dict[str, float]:
    """Average over the categories of a group that occur."""
    pq, sq, rq, n = 0.0, 0.0, 0.0, 0
    for category in categories:
        if isthing is not None and bool(category["isthing"]) != isthing:
            continue
        counts = stats.get(category["id"], {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0})
        weight = counts["tp"] + 0.5 * counts["fp"] + 0.5 * counts["fn"]
        if weight == 0:
            continue
        n += 1
        pq += counts["iou"] / weight
        sq += counts["iou"] / counts["tp"] if counts["tp"] else 0.0
        rq += counts["tp"] / weight
    if n == 0:
        return {"pq": float("nan"), "sq": float("nan"), "rq": float("nan"), "n": 0}
    return {"pq": pq / n, "sq": sq / n, "rq": rq / n, "n": n}


def averages(
    stats: dict[Any, dict[str, Any]], categories: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Average over all, thing and stuff categories."""
    groups = {"All": None, "Things": True, "Stuff": False}
    return {name: average(stats, categories, isthing) for name, isthing in groups.items()}


def evaluate(
    gt_json: Path, pred_json: Path, gt_folder: Path, pred_folder: Path
) -> tuple[dict[str, dict[str, float]], dict[Any, dict[str, Any]]]:
    """Evaluate a file set image by image.

    Returns:
        tuple: The averages, and the statistics by category.
    """
    gt = json.loads(gt_json.read_text())
    predictions = json.loads(pred_json.read_text())["annotations"]
    by_image = {annotation["image_id"]: annotation for annotation in predictions}
    stats = new_statistics()
    for annotation in gt["annotations"]:
        prediction = by_image[annotation["image_id"]]
        image_statistics(
            read_ids(gt_folder / annotation["file_name"]),
            annotation["segments_info"],
            read_ids(pred_folder / prediction["file_name"]),
            prediction["segments_info"],
            stats,
        )
    return averages(stats, gt["categories"]), dict(stats)
