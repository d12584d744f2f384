"""What became of the segments that a model missed; docs/tutorials/read_pq.md walks through it.

python examples/read_pq.py data/own/annotations/panoptic_val.json out/predictions.panoptic.json
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.utils import read_json
from mmpanoptic.utils.panoptic_png import read_panoptic_png

SHARE = 0.5
"""A segment is found if it and a predicted one of its class share more than half of their union."""


def fate(truth: np.ndarray, predicted: np.ndarray, classes: dict[int, int], label: int) -> str:
    """Say what covers a segment: bool ``(H, W)``, map of predicted ids ``(H, W)``.

    Args:
        truth (np.ndarray): The annotated segment.
        predicted (np.ndarray): The predicted map.
        classes (dict[int, int]): Category of each predicted id.
        label (int): Category of the segment.

    Returns:
        str: "found", "void", "class ID", "in parts", "merged" or "borders".
    """
    ids, pixels = np.unique(predicted[truth], return_counts=True)
    best = int(ids[pixels.argmax()])
    if best == 0:
        return "void"
    if classes[best] != label:
        return f"class {classes[best]}"
    area, covered = int((predicted == best).sum()), int(pixels.max())
    if covered / (truth.sum() + area - covered) > SHARE:
        return "found"
    same = sum(int(n) for i, n in zip(ids, pixels, strict=True) if classes.get(int(i)) == label)
    if area > 2 * truth.sum():
        return "merged"
    return "in parts" if covered <= SHARE * truth.sum() < same else "borders"


def fates(gt_json: Path, pred_json: Path) -> dict[str, Counter[str]]:
    """Count what became of the segments of each class, by its name."""
    gt, pred = read_json(gt_json), read_json(pred_json)
    names = {category["id"]: category["name"] for category in gt["categories"]}
    predictions = {entry["image_id"]: entry for entry in pred["annotations"]}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in gt["annotations"]:
        other = predictions[entry["image_id"]]
        truth = read_panoptic_png(gt_json.with_suffix("") / entry["file_name"])
        predicted = read_panoptic_png(pred_json.with_suffix("") / other["file_name"])
        classes = {s["id"]: s["category_id"] for s in other["segments_info"]}
        for segment in entry["segments_info"]:
            if segment.get("iscrowd"):
                continue
            label: Any = segment["category_id"]
            what = fate(truth == segment["id"], predicted, classes, label)
            number = what.removeprefix("class ")
            found[names[label]][names[int(number)] if number != what else f"({what})"] += 1
    return found


def main(argv: list[str] | None = None) -> None:
    """Print a line for each class, the one with most missed segments first."""
    gt_json, pred_json = map(Path, sys.argv[1:] if argv is None else argv)
    table = fates(gt_json, pred_json)
    for name, counts in sorted(table.items(), key=lambda row: row[1]["(found)"] - row[1].total()):
        parts = ", ".join(f"{what} {number}" for what, number in counts.most_common())
        print(f"{name} ({counts.total()}): {parts}")


if __name__ == "__main__":
    main()
