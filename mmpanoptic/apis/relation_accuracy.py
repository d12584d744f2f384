"""How often relation and occlusion heads order instances rightly, by pairs and during fusion."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.evaluation.relation_truth import RelationTruth, match_detections, read_truth
from mmpanoptic.models.fusion_heads.ordered_fusion import meeting_pairs, select_by_score
from mmpanoptic.models.postprocess.painting import (
    NearestRule,
    Numbers,
    OccluderRule,
    Painting,
    paint_in_order,
)
from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import BoxedMasks, LabelTable
from mmpanoptic.utils import read_json


@torch.no_grad()
def detect_instances(model: Any, item: Mapping[str, Any]) -> tuple[InstanceData, BoxedMasks]:
    """Run a model on one image, up to what its fusion head paints.

    Args:
        model (nn.Module): Two-stage model whose fusion head is a ``PaintFusionHead``.
        item (Mapping): Of a test dataset: ``inputs`` and ``data_samples``.

    Returns:
        tuple: The instances of sufficient score, the best first, and their masks at the size of
        the original image.
    """
    batch = {"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}
    data = model.data_preprocessor(batch)
    outputs = model.forward_heads(data["inputs"], data["data_samples"])
    meta = data["data_samples"][0].metainfo
    height, width = meta.get("ori_shape", meta["img_shape"])[:2]
    found = select_by_score(outputs.instance[0], model.fusion_head.score_thr)
    return found, model.fusion_head.paste(found, (int(height), int(width)))


@torch.no_grad()
def is_in_front(found: InstanceData, pairs: Tensor) -> Tensor:
    """Tell whether the relation or occlusion head puts the first of each pair in front.

    Args:
        found (InstanceData): With ``relation_values`` or ``occlusion``.
        pairs (Tensor): int64 ``(P, 2)``.

    Returns:
        Tensor: bool ``(P,)``.

    Raises:
        ValueError: If the instances have neither.
    """
    first, second = pairs.unbind(1)
    if "relation_values" in found:
        return found.relation_values[first] < found.relation_values[second]
    if "occlusion" not in found:
        raise ValueError(
            "the model puts nobody in front; it needs a RelationRoIHead with a relation_head or "
            "an occlusion_head"
        )
    return found.occlusion(pairs) > found.occlusion(pairs.flip(1))


def predict_relations(found: InstanceData, masks: BoxedMasks) -> list[tuple[int, int]]:
    """Order all pairs of instances whose masks meet.

    Args:
        found (InstanceData): From :func:`detect_instances`.
        masks (BoxedMasks): From :func:`detect_instances`.

    Returns:
        list[tuple[int, int]]: Positions (front, behind).
    """
    pairs = meeting_pairs(masks)
    front = is_in_front(found, pairs)
    return [
        (a, b) if first else (b, a)
        for (a, b), first in zip(pairs.tolist(), front.tolist(), strict=True)
    ]


@dataclass
class OrderCounts:
    """Pairs of an instance and one that it meets in the map when it is its turn.

    Attributes:
        pairs_with_target (int): Pairs whose ground truth says who lies in front.
        correct_by_head (int): Of these, those that the relation or occlusion head orders rightly.
        correct_by_score (int): Of these, those whose better score lies in front.
        inference_count (int): With the relation rule, instances that meet something and pass the
            check against duplicates; with the occlusion rule, pairs that it asks about.
    """

    pairs_with_target: int = 0
    correct_by_head: int = 0
    correct_by_score: int = 0
    inference_count: int = 0

    def add(self, other: OrderCounts) -> None:
        """Add the counts of further images."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class OrderReport:
    """Counts over all images; pairs are those that the annotation relates.

    Attributes:
        annotated (int): All pairs.
        detected (int): Pairs of which both are detected.
        right_by_head (int): Detected pairs that the head orders rightly.
        right_by_score (int): Detected pairs whose better score lies in front.
        fusion (OrderCounts): What the fusion meets while it paints.
    """

    annotated: int = 0
    detected: int = 0
    right_by_head: int = 0
    right_by_score: int = 0
    fusion: OrderCounts = field(default_factory=OrderCounts)

    def add(self, other: OrderReport) -> None:
        """Add the counts of further images."""
        self.fusion.add(other.fusion)
        for name in ("annotated", "detected", "right_by_head", "right_by_score"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> dict[str, Any]:
        """Give counts and fractions by name."""
        counts = {name: value for name, value in vars(self).items() if name != "fusion"}
        return {
            **counts,
            "accuracy_of_head": _fraction(self.right_by_head, self.detected),
            "accuracy_of_score": _fraction(self.right_by_score, self.detected),
            "fusion": vars(self.fusion),
        }

    def describe(self) -> str:
        """Give the result as text."""
        fusion = self.fusion
        return (
            f"annotated pairs: {self.annotated}, both detected: {self.detected}\n"
            f"right by the head: {_percent(self.right_by_head, self.detected)}, by the score: "
            f"{_percent(self.right_by_score, self.detected)}\n"
            f"pairs that the fusion meets: {fusion.pairs_with_target}, right by the head: "
            f"{_percent(fusion.correct_by_head, fusion.pairs_with_target)}, by the score: "
            f"{_percent(fusion.correct_by_score, fusion.pairs_with_target)}; "
            f"inferences: {fusion.inference_count}"
        )


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


class _Compared(NamedTuple):
    """The pairs of one instance: with whom, whether it lies in front, and what to add."""

    others: list[int]
    in_front: list[bool]
    inferences: int


@dataclass
class CountingRule:
    """A rule that paints as before and counts.

    RAP, test_relation. Differences from the original: the instances that one meets are visited in
    the order of their acceptance, not of random colours, so the counts are reproducible.

    Attributes:
        rule (NearestRule | OccluderRule): The rule.
        targets (Sequence[int]): Number of each instance's ground truth; -1 without.
        fronts (Mapping[int, set[int]]): By number of a ground truth, who lies in front of it.
        counts (OrderCounts): The result.
    """

    rule: NearestRule | OccluderRule
    targets: Sequence[int]
    fronts: Mapping[int, set[int]]
    counts: OrderCounts = field(default_factory=OrderCounts)

    def __call__(
        self, k: int, free: Numbers, met: Numbers, painting: Painting
    ) -> tuple[Numbers, Numbers]:
        """Decide about instance k; see :class:`PaintRule`."""
        if isinstance(self.rule, NearestRule):
            compared = _compare_nearest(self.rule, k, met, painting)
        else:
            compared = _compare_occluder(self.rule, k, met, painting)
        self.counts.inference_count += compared.inferences
        own = self.targets[k]
        for other, in_front in zip(compared.others, compared.in_front, strict=True):
            target = self.targets[other]
            is_front = own in self.fronts.get(target, ())
            if own < 0 or target < 0 or not (is_front or target in self.fronts.get(own, ())):
                continue
            self.counts.pairs_with_target += 1
            self.counts.correct_by_head += in_front == is_front
            self.counts.correct_by_score += not is_front  # the other came earlier
        return self.rule(k, free, met, painting)


def _compare_nearest(rule: NearestRule, k: int, met: Numbers, painting: Painting) -> _Compared:
    """Visit the instances that k meets up to the first that it duplicates."""
    if not bool(rule.passes_class(k, met, painting)):
        return _Compared([], [], 0)
    others = [j for j, pixels in enumerate(met.tolist()) if pixels]
    passes = rule.passes_duplicates(k, met, painting).tolist()
    first = next((n for n, other in enumerate(others) if not passes[other]), None)
    visited = others[:first]
    in_front = (rule.values[visited] > rule.values[k]).tolist()
    return _Compared(visited, in_front, int(bool(others) and first is None))


def _compare_occluder(rule: OccluderRule, k: int, met: Numbers, painting: Painting) -> _Compared:
    """Visit all instances that k meets."""
    others = [j for j, pixels in enumerate(met.tolist()) if pixels]
    asked = int(rule.asks(k, met, painting).sum())
    return _Compared(others, rule.occludes[k][others].tolist(), asked)


def order_report(
    model: Any, instances: str | os.PathLike[str], iou_thr: float = 0.5, track: Any = iter
) -> OrderReport:
    """Count how often a model orders the instances of its test dataset rightly.

    Args:
        model (nn.Module): From ``init_model``, with a relation- or occlusion-ordered fusion head.
        instances: Instance JSON of the test images with the field ``overlap``.
        iou_thr (float): Of matches.
        track (Callable): Shows progress; takes and yields the positions of the images.

    Returns:
        OrderReport: Over all images.

    Raises:
        ValueError: If the fusion head orders by score alone.
    """
    table = LabelTable.from_metainfo(model.dataset_meta)
    category = torch.tensor([table[label].dataset_id for label in table.thing_labels])
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in read_json(instances)["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    total = OrderReport()
    for index in track(range(len(dataset))):
        item = dataset[index]
        truth = read_truth(by_image.get(item["data_samples"].img_id, []))
        total.add(_order_report_of_image(model, item, truth, category, iou_thr))
    return total


def _order_report_of_image(
    model: Any,
    item: Mapping[str, Any],
    truth: RelationTruth,
    category: Tensor,
    iou_thr: float,
) -> OrderReport:
    """Count the pairs of one image; ``category`` is the id of each class of the detector."""
    found, masks = detect_instances(model, item)
    head = model.fusion_head
    rule = head.make_rule(found, masks)
    if not isinstance(rule, NearestRule | OccluderRule):
        raise ValueError(
            f"{type(head).__name__} orders by score alone; choose a config with "
            "RelationFusionHead or OcclusionFusionHead"
        )
    labels = found.labels.cpu()
    targets = match_detections(found.bboxes.cpu(), category[labels], truth, iou_thr)
    counting = CountingRule(rule, targets, truth.fronts)
    paint_in_order(masks, counting, head.paint_order(found, masks))
    place = {target: k for k, target in enumerate(targets) if target >= 0}
    both = [(place[a], place[b]) for a, b in truth.pairs if a in place and b in place]
    report = OrderReport(annotated=len(truth.pairs), detected=len(both), fusion=counting.counts)
    if both:
        pairs = torch.tensor(both, device=found.scores.device)
        report.right_by_head = int(is_in_front(found, pairs).sum())
        report.right_by_score = int((found.scores[pairs[:, 0]] > found.scores[pairs[:, 1]]).sum())
    return report
