"""Everything after the solver of COPS."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mmpanoptic.models.fusion_heads import MulticutHead
from mmpanoptic.models.multicut.layer import CutProblem
from tests.data.golden.cops.synthetic_scenes import scene
from tests.reference.cops import panoptic_of_cut

DESCRIPTION = "labels and components at stride 4 to the panoptic map and its scores."
BASELINE = (
    "the published procedure: one mask per segment, the stack enlarged by 4, codes painted and "
    "instances scored mask by mask."
)
CASES = {"cityscapes": {}, "coco": {"coco": True}}
SHRINK = {"default": 1, "small": 4}


def make_inputs(size: str = "default", coco: bool = False) -> dict[str, Any]:
    """Solve a scene of 256 x 512 cells (19 classes, 52 things) or 160 x 160 (133)."""
    height, width = (v // SHRINK[size] for v in ((160, 160) if coco else (256, 512)))
    num_classes, things = (133, tuple(range(80))) if coco else (19, tuple(range(11, 19)))
    distances = tuple(d for d in (1, 4, 16, 32, 64)[: 4 if coco else 5] if d < height)
    node, edges, *_ = scene(
        7, height, width, num_classes, things, distances, num_things=15 if coco else 52
    )
    costs = torch.from_numpy(node), [torch.from_numpy(array) for array in edges]
    head = MulticutHead(
        num_classes,
        things,
        distances,
        stuff_area=(4096 if coco else 2048) // SHRINK[size] ** 2,
        num_threads=1,
    )
    (cut,) = head.solve_asymmetric([CutProblem(*costs)])
    return {
        "cut": cut,
        "class_logits": -costs[0],
        "edge_logits": [-part for part in costs[1]],
        "head": head,
        "distances": distances,
        "things": things,
        "shape": (4 * height, 4 * width),
    }


def baseline(inputs: dict[str, Any]) -> dict[str, Any]:
    """Work on stacks of masks, as published."""
    head = inputs["head"]
    labels, components = inputs["cut"]
    return panoptic_of_cut(
        labels,
        components,
        inputs["class_logits"],
        inputs["edge_logits"],
        inputs["distances"],
        inputs["things"],
        (head.instance_area, head.stuff_area),
        head.min_cells,
    )


@torch.no_grad()
def ours(inputs: dict[str, Any]) -> dict[str, Any]:
    """Run the fusion head behind its solver."""
    return inputs["head"].predict_single(
        inputs["cut"], inputs["class_logits"], inputs["edge_logits"], {"img_shape": inputs["shape"]}
    )


def check(expected: dict[str, Any], got: dict[str, Any]) -> None:
    """Compare every pixel and every score."""
    data = got["pred_panoptic_seg"]
    codes, scores = [-1], {}
    seen: dict[int, int] = {}
    for segment in data.segments_info:
        label = segment["label"]
        codes.append(label * 1000 + (seen.get(label, 0) if segment["isthing"] else 0))
        seen[label] = seen.get(label, 0) + 1
        if segment["isthing"]:
            scores[codes[-1]] = segment["score"]
    np.testing.assert_array_equal(np.array(codes)[data.index_map[0]], expected["panoptic"])
    if scores.keys() != expected["scores"].keys():
        raise AssertionError("the maps have different instances")
    for code, score in scores.items():
        np.testing.assert_allclose(score, expected["scores"][code], rtol=1e-4, atol=1e-5)
