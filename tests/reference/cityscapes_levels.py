"""Cityscapes' two levels written down loop by loop, as the rules are told; slow on purpose."""

from __future__ import annotations

import numpy as np

from mmpanoptic.evaluation.cityscapes_pixel import MEAN_INSTANCE_SIZE
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS

EVALUATED = [label for label in CITYSCAPES_LABELS if not label.ignored]
THINGS = [label for label in EVALUATED if label.has_instances]


def class_iou(images, weighted):
    """IoU, or iIoU if ``weighted``, by class name, from (labels, instances, prediction) maps."""
    scores = {}
    for label in THINGS if weighted else EVALUATED:
        hits = misses = false = 0.0
        for truth, instances, prediction in images:
            others = [other.id for other in EVALUATED if other.id != label.id]
            false += np.sum((prediction == label.id) & np.isin(truth, others))
            if not weighted:
                hits += np.sum((truth == label.id) & (prediction == label.id))
                misses += np.sum((truth == label.id) & (prediction != label.id))
                continue
            for value in np.unique(instances):
                if value <= 1000 or value // 1000 != label.id:
                    continue
                found = prediction[instances == value] == label.id
                weight = MEAN_INSTANCE_SIZE[label.name] / found.size
                hits += weight * found.sum()
                misses += weight * (found.size - found.sum())
        total = hits + misses + false
        scores[label.name] = hits / total if total else float("nan")
    return scores


def class_ap(images, threshold):
    """AP at one threshold by class name, from (instances, masks, labels, scores)."""
    return {label.name: _class_ap(images, label.id, threshold) for label in THINGS}


def _class_ap(images, label_id, threshold):
    scored, missed, wanted = [], 0, 0
    void_values = [label.id for label in CITYSCAPES_LABELS if label.ignored]
    for instances, masks, labels, scores in images:
        regions = [
            (value, instances == value)
            for value in np.unique(instances)
            if value == label_id or value // 1000 == label_id
        ]
        predictions = [
            (mask, score)
            for mask, label, score in zip(masks, labels, scores, strict=True)
            if label == label_id and mask.any()
        ]
        matched = set()
        for value, region in regions:
            if value < 1000 or region.sum() < 100:
                continue
            wanted += 1
            best = None
            for number, (mask, score) in enumerate(predictions):
                if (mask & region).sum() / (mask | region).sum() <= threshold:
                    continue
                matched.add(number)
                if best is None:
                    best = score
                else:  # one of two is a mistake: the one with the lower score
                    scored.append((min(best, score), False))
                    best = max(best, score)
            if best is None:
                missed += 1
            else:
                scored.append((best, True))
        for number, (mask, score) in enumerate(predictions):
            if number in matched:
                continue
            ignored = np.isin(instances, void_values)[mask].sum()
            for value, region in regions:
                ignored += (value < 1000) * (mask & region).sum()
                ignored += (region.sum() < 100) * (mask & region).sum()
            if ignored / mask.sum() <= threshold:
                scored.append((score, False))
    return _area(scored, missed) if wanted else float("nan")


def _area(scored, missed):
    points = []
    for cut in sorted({score for score, _ in scored}):
        above = [correct for score, correct in scored if score >= cut]
        hits = sum(above)
        below = sum(correct for score, correct in scored if score < cut)
        points.append((hits / len(above), hits / (hits + below + missed)))
    points.append((1.0, 0.0))
    recalls = [points[0][1], *(recall for _, recall in points), 0.0]
    return sum(
        precision * 0.5 * (recalls[i] - recalls[i + 2]) for i, (precision, _) in enumerate(points)
    )
