"""Tell how often a relation or occlusion head orders overlapping instances rightly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from mmpanoptic.apis import init_model
from mmpanoptic.apis.relation_accuracy import (
    CountingRule,
    OrderReport,
    detect_instances,
    is_in_front,
)
from mmpanoptic.evaluation.relation_truth import RelationTruth, match_detections, read_truth
from mmpanoptic.models.postprocess.painting import NearestRule, OccluderRule, paint_in_order
from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.cfg_options import ConfigOptions

EXAMPLES = """
  %(prog)s configs/rap/rap_r18-tiny_relation-finetune_1xb8-2k_shapes.py iter_2000.pth \\
      data/shapes/annotations/instances_val_with_relation.json
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"example:{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument(
        "instances", type=Path, help="instance JSON of the test images with the field overlap"
    )
    parser.add_argument("--iou-thr", type=float, default=0.5, help="of matches (default: 0.5)")
    parser.add_argument("--device", help="default: the first CUDA device, else the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values"
    )
    return parser.parse_args(argv)


def evaluate_image(
    model: nn.Module,
    item: Mapping[str, Any],
    truth: RelationTruth,
    category: Tensor,
    iou_thr: float,
) -> OrderReport:
    """Count the pairs of one image.

    Args:
        model: With a relation- or occlusion-ordered fusion head.
        item: Of the test dataset.
        truth: The annotation.
        category: Category id of each class of the detector.
        iou_thr: Of matches.

    Raises:
        ValueError: If the fusion head orders by score alone.
    """
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


def evaluate(args: argparse.Namespace) -> OrderReport:
    """Evaluate all images of the test dataset."""
    model = init_model(args.config, args.checkpoint, args.device, args.cfg_options)
    table = LabelTable.from_metainfo(model.dataset_meta)
    category = torch.tensor([table[label].dataset_id for label in table.thing_labels])
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in read_json(args.instances)["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    total = OrderReport()
    for index in track(range(len(dataset)), "relations"):
        item = dataset[index]
        truth = read_truth(by_image.get(item["data_samples"].img_id, []))
        total.add(evaluate_image(model, item, truth, category, args.iou_thr))
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print and write; return the exit status."""
    args = parse_args(argv)
    try:
        report = evaluate(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.describe())
    if args.json is not None:
        write_json(args.json, report.to_dict(), indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
