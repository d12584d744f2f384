"""Mask paste and fusion of RAP against the golden files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmpanoptic.apis.relation_accuracy import CountingRule
from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.models.fusion_heads.ordered_fusion import (
    HeuristicFusionHead,
    OcclusionFusionHead,
    RelationFusionHead,
    select_by_score,
)
from mmpanoptic.models.layers import PairQuery
from mmpanoptic.models.postprocess import paste_masks
from mmpanoptic.models.postprocess.painting import paint_in_order
from mmpanoptic.structures import BoxedMasks
from tests.golden import Golden, golden_cases, golden_files

SYSTEM = "rap"
COCO_STUFF = [
    number
    for number, isthing in zip(
        CocoPanopticDataset.METAINFO["dataset_ids"],
        CocoPanopticDataset.METAINFO["isthing"],
        strict=True,
    )
    if not isthing
]


def unpack(packed: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Binary masks (K, H, W) of rows of bits."""
    bits = np.unpackbits(packed, axis=1)[:, : height * width]
    return torch.from_numpy(bits.reshape(-1, height, width).astype(bool))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "mask_paste*.npz"))
def test_masks_are_pasted_like_the_original(path):
    data = Golden(path)
    width, height = data["image_wh"].tolist()
    values, boxes = torch.from_numpy(data["mask_prob"]), torch.from_numpy(data["boxes"])
    expected = unpack(data["pasted_packed"], height, width)
    pasted = paste_masks(values, boxes, (height, width), mode="legacy")
    exact = paste_masks(values, boxes, (height, width), mode="legacy", threshold=None).to_full()
    differs = pasted.to_full() != expected
    assert ((exact[differs] - 0.5).abs() < 1e-5).all()
    assert expected.any()


HEADS = {
    "heuristic": HeuristicFusionHead,
    "RAP": RelationFusionHead,
    "ocfusion": OcclusionFusionHead,
}
FUSIONS = golden_cases(SYSTEM, "fusion_*.npz")


def fusion_head(data, method: str, things: list[int]):
    """The head with the thresholds of a golden file; the n-th thing has label n."""
    options = {"large_overlap_thr": float(data["large_overlap_thr"])} if method == "RAP" else {}
    return HEADS[method](
        thing_labels=range(len(things)),
        stuff_labels=range(len(things), len(things) + len(COCO_STUFF)),
        score_thr=float(data["conf_thr"]),
        overlap_thr=float(data["overlap_thr"]),
        stuff_area=int(data["stuff_area_limit"]),
        **options,
    )


def instances_of(data, things: list[int]) -> InstanceData:
    """The detections of a golden file."""
    found = InstanceData(scores=torch.from_numpy(data["scores"]))
    found.labels = torch.tensor([things.index(c) for c in data["category_ids"].tolist()])
    found.labels = found.labels.long()
    if "relation_val" in data:
        found.relation_values = torch.from_numpy(data["relation_val"])
    if "occlusion" in data:
        matrix = torch.from_numpy(data["occlusion"]).float()
        positions = torch.arange(len(found))
        found.occlusion = PairQuery(
            positions, lambda known, pairs: matrix[known[pairs[:, 0]], known[pairs[:, 1]]]
        )
    return found


@pytest.mark.parametrize("path", FUSIONS)
def test_fusion_gives_the_map_of_the_original(path):
    data = Golden(path)
    things = sorted(set(data["category_ids"].tolist()))
    head = fusion_head(data, path.stem.rsplit("_", 1)[1], things)
    found = instances_of(data, things)
    found.number = torch.arange(len(found))
    kept = select_by_score(found, head.score_thr)
    full = unpack(data["masks_packed"], *data["size"].tolist())
    masks = BoxedMasks.from_full(full).select(kept.number.tolist())
    index_map, segments = head.fuse(kept, masks, torch.from_numpy(data["semantic_argmax"]).long())
    data.equal("segment_map", index_map)
    categories = [*things, *COCO_STUFF]
    assert [categories[s["label"]] for s in segments] == data["segment_category_ids"].tolist()
    assert [s["area"] for s in segments] == np.bincount(
        data["segment_map"].ravel(), minlength=len(segments) + 1
    )[1:].tolist()


def accuracy_cases():
    for path in golden_files(SYSTEM, "relation_accuracy*.json"):
        for name, case in json.loads(path.read_text()).items():
            yield pytest.param(path.parent, case, id=name)


@pytest.mark.parametrize(("folder", "case"), accuracy_cases())
def test_the_order_of_pairs_is_counted_like_in_the_original(folder, case):
    data = Golden(folder / case["masks_from"])
    things = sorted(set(data["category_ids"].tolist()))
    head = fusion_head(data, case["masks_from"].removesuffix(".npz").rsplit("_", 1)[1], things)
    found = instances_of(data, things)
    found.target = torch.tensor(case["matched_instance_id"])
    found.number = torch.arange(len(found))
    kept = select_by_score(found, head.score_thr)
    full = unpack(data["masks_packed"], *data["size"].tolist())
    masks = BoxedMasks.from_full(full).select(kept.number.tolist())
    fronts: dict[int, set[int]] = {}
    for front, behind in case["relation_pairs_front_behind"]:
        fronts.setdefault(behind, set()).add(front)
    rule = CountingRule(head.make_rule(kept, masks), kept.target.tolist(), fronts)
    paint_in_order(masks, rule)
    assert vars(rule.counts) == {name: case[name] for name in vars(rule.counts)}
